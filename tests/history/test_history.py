"""No process ever reads what is not the newest state, whatever others do and whoever dies.

Properties: what threads of several processes record of `get`, `[]`, `in`, `set`, `add`, `delete`,
`pop`, `incr`, `touch`, `get_many`, `set_many`, `transact`, `evict`, `clear` and of a full cache is
linearizable, key by key and transaction by transaction, also where processes are killed; faults in
the order in which the product makes a write visible are noticed. `make soak` does the same with a
million operations.
"""

from __future__ import annotations

import pytest

from tests.history.run import run

# To check a history takes long where processes were held up in the middle of operations.
pytestmark = pytest.mark.timeout(600)

OPERATIONS = 100_000
FAULTS = {
    "no_mark": 25_000,
    "early_settle": 8000,
    "early_settle_of_transactions": 8000,
    "forgotten_keys": 8000,
}
"""Operations in which a fault is most likely noticed."""


def test_history_of_killed_processes_is_linearizable(tmp_path):
    report = run(tmp_path, operations=OPERATIONS, kills=4, checkers=2)

    assert report.is_sound, str(report)
    assert report.operations >= OPERATIONS
    assert report.kills == 4
    assert min(report.by_name.values()) > 5, str(report)


def test_history_with_long_moments_between_steps_is_linearizable(tmp_path):
    report = run(tmp_path, operations=15_000, mutation="slow")

    assert report.is_sound, str(report)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_the_order_of_steps_is_noticed(tmp_path, fault):
    """What is only likely is tried again: even one of ten attempts would do."""
    for attempt in range(40):
        (tmp_path / str(attempt)).mkdir()
        report = run(tmp_path / str(attempt), operations=FAULTS[fault], mutation=fault)
        unseen = [text for text in report.failures if "AssertionError" not in text]
        assert not unseen, str(report)
        # A worker looks at some answers itself, such as the tag of a value.
        if report.violations or report.failures:
            return

    pytest.fail(f"{fault} was not noticed")
