"""What every cache does, whatever stores its entries.

One class per capability; none of them knows an engine. A cache of yours runs them all by a line in
`conftest.py`, `pytest_plugins = ["diskcache.testing.contract.fixtures"]`, and one file:

    from diskcache.testing import Variant
    from diskcache.testing.contract import suite

    MINE = Variant(MyCache, frozenset({"transactions", "ordered"}))

    @pytest.fixture
    def variant():
        return MINE

    globals().update(suite(MINE))
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from diskcache.errors import MissingExtraError, SettingError
from diskcache.testing.variants import CAPABILITIES, Variant

try:
    import pytest
except ImportError as exc:
    raise MissingExtraError(
        'the contract suite needs pytest: pip install "diskcache[testing]"'
    ) from exc

F = TypeVar("F", bound=Callable[..., Any])

_MODULES = [
    f"{__name__}.{module.name}"
    for module in pkgutil.iter_modules(__path__)
    if module.name != "fixtures"
]

# A failed assertion then shows what was compared.
pytest.register_assert_rewrite(*_MODULES)


class Contract:
    """Base of the classes of the suite."""

    needs: frozenset[str] = frozenset()
    """Capabilities without which the class does not apply; `asks_for` says so of a single test."""


def asks_for(*capabilities: str) -> Callable[[F], F]:
    """Return a decorator for a test that does not apply without these capabilities."""

    def decorate(test: F) -> F:
        test.__dict__["needs"] = frozenset(capabilities)
        return test

    return decorate


def suite(variant: Variant, *, without: Collection[str] = ()) -> dict[str, type]:
    """Return a test class for every contract class that applies to *variant*.

    Args:
        variant: How a cache is made, and what it can do.
        without: Tests to leave out, as `'Class.test_name'`, without the `Test` of the class. Give
            a dict, with the reasons as values, for whoever reads the file.

    Raises:
        SettingError: A test that is to be left out, or a capability, is none.
    """
    for module in _MODULES:
        importlib.import_module(module)
    if unknown := variant.capabilities - CAPABILITIES:
        raise SettingError(
            f"capabilities are {', '.join(sorted(CAPABILITIES))}: got {', '.join(sorted(unknown))}"
        )
    contracts = {
        contract.__name__.removesuffix("Contract"): contract
        for contract in Contract.__subclasses__()
    }
    for test in without:
        group, _, name = test.partition(".")
        if not name.startswith("test_") or not hasattr(contracts.get(group), name):
            raise SettingError(f"without must name tests of the suite: got {test!r}")
    return {
        f"Test{group}": _test_class(group, contract, variant, without)
        for group, contract in contracts.items()
        if contract.needs <= variant.capabilities
    }


def _test_class(
    group: str, contract: type[Contract], variant: Variant, without: Collection[str]
) -> type[Any]:
    left_out = {
        name
        for name, test in vars(contract).items()
        if f"{group}.{name}" in without or not getattr(test, "needs", set()) <= variant.capabilities
    } - {"needs"}
    return type(f"Test{group}", (contract,), dict.fromkeys(left_out))
