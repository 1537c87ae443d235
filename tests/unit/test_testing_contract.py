"""The contract suite, used as somebody who has a cache of their own would use it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from diskcache import SettingError
from diskcache.testing import Variant
from diskcache.testing.contract import Contract, suite
from diskcache.testing.variants import CAPABILITIES

THEIR_CONFTEST = 'pytest_plugins = ["diskcache.testing.contract.fixtures"]'
THEIR_FILE = """
import pytest
from diskcache import Cache
from diskcache.testing import Variant
from diskcache.testing.contract import suite

class Mine(Cache):
    def touch(self, key, expire=None, retry=False):
        return {touch}

MINE = Variant(Mine, frozenset({{"transactions"}}))

@pytest.fixture
def variant():
    return MINE

globals().update(suite(MINE, without={{"Touch.test_touch_keeps_value_tag_and_place": "why"}}))
"""


def outcome(tmp_path, touch: str) -> tuple[str, dict[str, int]]:
    (tmp_path / "conftest.py").write_text(THEIR_CONFTEST, encoding="utf-8")
    (tmp_path / "test_mine.py").write_text(THEIR_FILE.format(touch=touch), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
         "-W", "error", "--strict-markers", "-k", "TestTouch"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    (last,) = ended.stdout.strip().splitlines()[-1:]
    return ended.stdout, {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed)", last)}


def test_suite_passes_for_a_cache_that_keeps_the_contract(tmp_path):
    output, counts = outcome(tmp_path, "super().touch(key, expire, retry)")

    assert counts.keys() == {"passed"}, output
    assert counts["passed"] > 5


def test_suite_fails_for_a_cache_that_does_not(tmp_path):
    output, counts = outcome(tmp_path, "True")

    assert counts["failed"] >= 1, output
    # What was compared is shown, as for tests of one's own.
    assert re.search(r"E +assert .* == |E +assert True is False", output)


def test_suite_leaves_out_what_needs_more_than_there_is():
    small, whole = (
        suite(Variant(object, capabilities)) for capabilities in (frozenset(), CAPABILITIES)
    )

    assert small.keys() < whole.keys()
    assert {
        f"Test{contract.__name__.removesuffix('Contract')}" for contract in all_contracts()
    } == (whole.keys())
    durable = suite(Variant(object, frozenset({"durable"})))["TestLifecycle"]
    assert durable.test_reopening_changes_no_file is None
    assert whole["TestLifecycle"].test_reopening_changes_no_file is not None


def all_contracts():
    return Contract.__subclasses__()


def test_suite_leaves_out_what_it_is_told():
    test = "Touch.test_touch_keeps_value_tag_and_place"
    made = suite(Variant(object, CAPABILITIES), without={test: "a reason"})

    assert made["TestTouch"].test_touch_keeps_value_tag_and_place is None


@pytest.mark.parametrize(
    "test", ["Touch.test_nothing", "Nothing.test_touch", "Touch", "Touch.needs", ""]
)
def test_suite_refuses_to_leave_out_what_is_no_test(test):
    with pytest.raises(SettingError, match="tests of the suite"):
        suite(Variant(object, CAPABILITIES), without=[test])


def test_suite_refuses_a_capability_that_it_does_not_know():
    with pytest.raises(SettingError, match="got flying"):
        suite(Variant(object, frozenset({"flying"})))


def test_missing_pytest_is_named_with_the_extra():
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from diskcache.testing import ManualClock, faulty\n"
        "try:\n    import diskcache.testing.contract\n"
        "except ImportError as exc:\n    print(type(exc).__name__, exc)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert ended.stdout.startswith("MissingExtraError ")
    assert 'pip install "diskcache[testing]"' in ended.stdout
