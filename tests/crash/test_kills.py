"""A process that is killed at any moment takes nothing with it that it had finished.

Property: after SIGKILL of one or several processes, at a named step or at any time, what an
operation had returned for is there with its exact value; the one operation that was under way
happened or did not, as a whole; the next open works, the next write takes less than a second;
after it `check` finds nothing and the totals are those of a recount.

What stays behind: a value file that was published but not named, or no longer named, is removed
by the next write; one that was still being written stays in `tmp/` until `check(fix=True)`.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import time
from pathlib import Path

import pytest

from diskcache import Cache
from tests.crash import faults, scenarios, story
from tests.crash.killing import Child, assert_sweeps, recovered
from tests.support.leaks import assert_tidy

KILLS = int(os.environ.get("DISKCACHE_TEST_KILLS", "60"))
"""Roughly how many processes are killed; set it higher for a long run."""

LIMIT = 20.0
"""Seconds after which a child is taken for hung."""


def own(state: story.State, name: str) -> story.State:
    return {key: value for key, value in state.items() if str(key).startswith(name)}


@pytest.mark.parametrize("point", faults.NAMED)
def test_kill_at_a_named_step_loses_nothing(directory, point):
    """Crash after crash in one directory, each a few steps later than the last."""
    state: story.State = {}
    rounds = max(KILLS // 10, 1)
    for number in range(rounds):
        arm = functools.partial(faults.NAMED[point], 1 + 2 * number)
        child = Child(directory, story.operations("a", number), arm)
        allowed = child.outcomes(state)
        state = recovered(directory)

        assert state in allowed
    assert_sweeps(directory)


def small_steps(name):
    """Yield the operations that are one statement each, all of which change the totals."""
    for number in itertools.count():
        yield "set", f"{name}{number}", number
        if number % 3 == 2:
            yield "delete", f"{name}{number - 1}"
            yield "push", f"{name}-q", number


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
@pytest.mark.parametrize("countdown", range(5, 5 + max(KILLS // 10, 1)))
def test_kill_in_an_operation_of_one_statement_is_noticed(directory, point, countdown):
    arm = functools.partial(faults.NAMED[point], countdown)
    child = Child(directory, small_steps("a"), arm)
    allowed = child.outcomes({})

    assert recovered(directory) in allowed
    assert_tidy(directory)


def busy(directory: Path, limit: int) -> None:
    """Store, read, count and remove in a full cache, until killed."""
    dice = random.Random(5)
    with Cache(directory, disk_min_file_size=500) as cache:
        for number in itertools.count():
            key = dice.randrange(3 * limit)
            if cache.get(key) is None:
                cache.set(key, b"x" * dice.choice([10, 100, 1000]))
            if number % 5 == 0:
                cache.delete(dice.randrange(3 * limit))
            if number % 7 == 0:
                cache.set_many({key: 1, key + 1: 2})
            if number % 11 == 0:
                cache.incr(f"n{key}")


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
@pytest.mark.parametrize("policy", ["s3-fifo", "least-frequently-used"])
def test_kill_in_a_full_cache_leaves_totals_memory_and_order_right(directory, policy, point):
    limit = 40
    Cache(directory, eviction_policy=policy, count_limit=limit).close()
    for number in range(max(KILLS // 20, 1)):
        arm = functools.partial(faults.NAMED[point], 60 + 37 * number)
        child = Child(directory, iter([]), lambda arm=arm: (arm(), busy(directory, limit)))
        child.wait()
        with Cache(directory) as cache:
            for key in range(10):
                cache.set(f"after-{key}", key)
            assert len(cache) <= limit
            assert [str(finding.message) for finding in cache.check()] == []


@pytest.mark.parametrize("seed", range(max(KILLS // 20, 1)))
def test_kill_of_some_of_several_processes_at_any_time_loses_nothing(directory, seed):
    """Three write; one after the other is killed while the rest go on."""
    dice = random.Random(seed)
    names = "abc"
    state: story.State = {}
    for number in range(2):
        children = {
            name: Child(directory, story.operations(name, seed * 10 + number)) for name in names
        }
        time.sleep(dice.uniform(0.02, 0.2))
        allowed = {}
        for name, child in children.items():
            child.kill()
            allowed[name] = child.outcomes(own(state, name))
            time.sleep(dice.uniform(0, 0.05))
        state = recovered(directory)

        for name in names:
            assert own(state, name) in allowed[name]
    assert_sweeps(directory)


@pytest.mark.parametrize("point", ["in_clear", "behind_clear"])
@pytest.mark.parametrize("countdown", [1, 2, 4])
def test_kill_in_clear_leaves_whole_entries(directory, point, countdown):
    with Cache(directory) as cache:
        before = {f"k{number}": story.value_of(number, number % 2 == 0) for number in range(20)}
        cache.set_many(before)
        last = list(cache)[5 * (countdown - (point == "in_clear")) :]
    child = Child(directory, iter([("clear",)]), lambda: getattr(faults, point)(countdown))
    child.wait()

    assert recovered(directory) == {key: before[key] for key in last}
    assert_sweeps(directory)


def test_kill_inside_a_transaction_undoes_all_of_it(directory):
    with Cache(directory) as cache:
        cache["kept"] = b"k" * story.LARGE
        cache["small"] = 1

    def stop_inside() -> None:
        with Cache(directory) as cache, cache.transact():
            cache["kept"] = b"r" * story.LARGE
            cache["new"] = b"n" * story.LARGE
            cache.pop("small")
            cache.clear()
            cache["other"] = 1
            assert len(cache) == 1
            story.die()

    Child(directory, iter([]), stop_inside).wait()

    assert recovered(directory) == {"kept": b"k" * story.LARGE, "small": 1}
    assert_sweeps(directory)


@pytest.mark.parametrize("countdown", range(1, 1 + 3 * max(KILLS // 12, 1), 2))
def test_kill_while_the_cache_is_made_leaves_a_cache_or_nothing(directory, countdown):
    operations = [("set", "a", 1), ("set", "b", b"b" * story.LARGE)]
    endless = itertools.chain(operations, story.operations("c", countdown))
    child = Child(directory, endless, lambda: faults.in_creation(countdown))
    allowed = child.outcomes({})
    state = recovered(directory)

    assert state in allowed
    assert not list(directory.glob("*.new*"))


@pytest.mark.parametrize("seed", range(max(KILLS // 15, 1)))
def test_kill_of_one_of_several_that_make_the_cache_disturbs_none(directory, seed):
    """One dies at some step of the making; the others go on and are killed later."""
    doomed = Child(directory, story.operations("a", seed), lambda: faults.in_creation(2 + 3 * seed))
    others = {name: Child(directory, story.operations(name, seed)) for name in "bc"}
    allowed = {"a": doomed.outcomes({})}
    time.sleep(0.1)
    for name, child in others.items():
        child.kill()
        allowed[name] = child.outcomes({})
    state = recovered(directory)

    for name, states in allowed.items():
        assert own(state, name) in states


@pytest.mark.parametrize("scenario", scenarios.ALL[1:], ids=lambda scenario: scenario.name)
def test_kill_of_one_that_works_on_a_structure_loses_nothing(directory, scenario):
    """Now at a named step, now at any time, in one directory."""
    dice = random.Random(scenario.name)
    state = scenario.empty
    for number in range(max(KILLS // 15, 1)):
        if number % 2:
            arm = functools.partial(faults.NAMED["after_commit"], dice.randint(1, 12))
            child = Child(directory, scenario.operations(number), arm, scenario)
        else:
            child = Child(directory, scenario.operations(number), scenario=scenario)
            time.sleep(dice.uniform(0.02, 0.06))
            child.kill()
        outcomes = child.outcomes(state)
        state = recovered(directory, scenario)

        assert scenarios.is_allowed(scenario, state, outcomes)
    assert_sweeps(directory, scenario)
