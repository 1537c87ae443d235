"""What every cache does, whatever stores its entries.

One class per capability; none of them knows an engine. A variant of the cache (an engine, the
memory tier on or off, an adapter of the asynchronous facade) runs them all by one file:

    @pytest.fixture
    def variant():
        return SQLITE

    globals().update(suite(SQLITE))
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from diskcache.errors import MissingExtraError
from diskcache.testing.variants import Variant

try:
    import pytest
except ImportError as exc:
    raise MissingExtraError(
        'the contract suite needs pytest: pip install "diskcache[testing]"'
    ) from exc

_MODULES = [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]

# A failed assertion then shows what was compared.
pytest.register_assert_rewrite(*_MODULES)


class Contract:
    """Base of the classes of the suite."""

    needs: frozenset[str] = frozenset()
    """Capabilities without which the class does not apply."""


def suite(variant: Variant) -> dict[str, type]:
    """Return a test class for every contract class that applies to *variant*."""
    for module in _MODULES:
        importlib.import_module(module)
    return {
        "Test" + contract.__name__.removesuffix("Contract"): _test_class(contract)
        for contract in Contract.__subclasses__()
        if contract.needs <= variant.capabilities
    }


def _test_class(contract: type[Contract]) -> type[Any]:
    return type("Test" + contract.__name__.removesuffix("Contract"), (contract,), {})
