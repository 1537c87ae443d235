"""The entry of a recipe: whatever happens to it while a step decides, the step's word counts."""

import shutil

import pytest

from diskcache import ENOVAL
from diskcache.recipes.rows import Cell
from tests.support.leaks import value_files


@pytest.fixture
def cell(cache):
    return Cell(cache, "key")


def changed(cell, new, **arguments):
    """Replace the value by *new*; return what it was."""
    return cell.change(lambda old: (new, old), **arguments)


def test_change_of_missing_entry_stores_the_value(cell):
    assert changed(cell, (1,)) is ENOVAL
    assert cell.read() == (1,)


def test_change_of_live_entry_replaces_value_and_expiry(cell, cache, clock):
    changed(cell, (1,), expire=10)

    assert changed(cell, (2,), expire=20) == (1,)
    assert cache.get("key", expire_time=True) == ((2,), clock.time() + 20)


def test_change_of_entry_that_expires_while_the_step_decides_stores_the_value(cell, clock):
    changed(cell, (1,), expire=10)

    def step(old):
        clock.advance(11)
        return (2,), old

    assert cell.change(step) == (1,)
    assert cell.read() == (2,)


def test_change_of_expired_entry_stores_the_value(cell, clock):
    changed(cell, (1,), expire=10)
    clock.advance(11)

    assert changed(cell, (2,)) is ENOVAL
    assert cell.read() == (2,)


def test_change_of_entry_whose_file_is_gone_stores_the_value(cell, cache, directory):
    cache["key"] = b"x" * 100_000
    for path in value_files(directory):
        shutil.rmtree(path.parents[1])

    assert changed(cell, (2,)) is ENOVAL
    assert cell.read() == (2,)


def test_change_that_changes_nothing_writes_nothing(cell, cache):
    changed(cell, (1,), expire=10)
    before = cache.get("key", expire_time=True)

    assert cell.change(lambda old: (old, "same"), expire=20) == "same"
    assert cache.get("key", expire_time=True) == before


def test_change_whose_step_raises_changes_nothing(cell):
    changed(cell, (1,))

    def step(_old):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cell.change(step)
    assert cell.read() == (1,)


def test_change_to_nothing_removes_the_entry(cell, cache):
    changed(cell, (1,))

    assert changed(cell, ENOVAL) == (1,)
    assert len(cache) == 0
