"""While one process stores alone, s3-fifo searches seldom, and writes places and ghosts later."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import apsw
import pytest

from diskcache import Cache
from diskcache.engines.sqlite import s3fifo, waiting
from tests.support.s3_fifo import Model

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LIMIT = 12

# Time alone would have a write take the long way.
pytestmark = pytest.mark.usefixtures("no_looks")


def statements_of(cache: Cache, sets: int) -> Counter[str]:
    """Return the statements of some sets into a cache that is full, with reads in between."""
    seen: Counter[str] = Counter()

    def step(number: int) -> None:
        cache[f"key-{number}"] = b"x" * 1000
        for back in (1, 7):
            cache.get(f"key-{number - back}")

    full = 2 * cache.count_limit
    for number in range(full):
        step(number)
    con = cache._engine._link().con
    con.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.update([event["sql"]]))
    for number in range(full, full + sets):
        step(number)
    con.trace_v2(0, None)
    return seen


@pytest.mark.parametrize("limit", [24, 128])
def test_set_into_full_small_cache_searches_and_writes_ghosts_seldom(make_cache, tmp_path, limit):
    sets = 160
    plain = statements_of(make_cache(tmp_path / "plain", count_limit=limit), sets)
    seen = statements_of(make_cache(eviction_policy="s3-fifo", count_limit=limit), sets)

    def times(*words: str) -> int:
        return sum(number for text, number in seen.items() if text.startswith(words))

    # With those that are spared, three entries are looked at for each that goes.
    assert times("SELECT rank") <= sets / 10
    assert times("DELETE FROM Ghost WHERE h IN", "SELECT 1 FROM Ghost") <= sets / 10
    assert times("DELETE FROM Ghost WHERE h =") <= sets / 10
    rows = times("UPDATE Cache SET", "INSERT OR IGNORE INTO Ghost")
    assert seen.total() - rows <= plain.total() + sets / 5


def test_set_into_full_cache_of_hundreds_is_mostly_one_statement(make_cache):
    sets = 60
    seen = statements_of(make_cache(eviction_policy="s3-fifo", count_limit=512), sets)

    # Two may go beyond what is needed, so that each third write makes room.
    assert seen["BEGIN IMMEDIATE"] <= sets / 3 + 1
    searches = sum(number for text, number in seen.items() if text.startswith("SELECT rank"))
    assert searches <= seen["BEGIN IMMEDIATE"] / 3


def test_overwriting_in_a_full_cache_tries_to_insert_once(make_cache):
    cache = make_cache(eviction_policy="s3-fifo", count_limit=128)
    for number in range(300):
        cache[number] = 0
    seen: list[str] = []
    con = cache._engine._link().con
    con.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: seen.append(event["sql"]))
    cache[290] = 1
    con.trace_v2(0, None)

    words = [text.partition(" (")[0].partition(" Cache")[0] for text in seen]
    assert words.count("INSERT OR IGNORE INTO") == 1
    assert words.count("DELETE FROM Ghost WHERE h = ?") == 0


# What is put off.


class Story:
    """A full cache that has put something off, and the model of it."""

    def __init__(self, make_cache: Callable[..., Any]) -> None:
        self.open = lambda: make_cache(eviction_policy="s3-fifo", count_limit=LIMIT)
        self.cache = self.open()
        self.model = Model(LIMIT, floor=3)
        dice = random.Random(1)
        for _ in range(200):
            key = f"k{int(dice.paretovariate(0.6)) % 40}"
            if not self.read(key):
                self.set(key)

    def set(self, key: str, value: bytes = b"") -> None:
        self.cache[key] = value
        self.model.store(key, s3fifo.cost(key, value, 0), 0)
        self.model.arrange()
        self.model.victims(lambda gone: gone < 10 and len(self.model.items) > LIMIT, key)

    def read(self, key: str) -> bool:
        found = self.cache.get(key) is not None
        if found:
            self.model.read(key)
        return found

    @property
    def kept(self) -> waiting.Kept:
        kept: waiting.Kept = self.cache._engine._culler.kept
        return kept

    def moved(self) -> list[str]:
        """Return the keys of entries that went from small to main, of which that is put off."""
        known = self.kept._known
        assert known is not None
        rows = [row for row, move in known[2].unwritten.moves.items() if move.before < 0]
        execute = self.cache._engine._link().execute
        return [execute("SELECT key FROM Cache WHERE rowid = ?", (row,)).get for row in rows]

    def move_one(self, expire: float | None = None) -> str:
        """Store and read a new entry, until it has gone to main; return its key."""
        for number in range(8):  # Until both queues are known without a search.
            self.cache.set(f"before-{number}", b"")
        key = "one"
        self.cache.set(key, b"", expire=expire)
        self.cache.get(key)
        for number in range(100):
            self.cache.set(f"other-{number}", b"")
            if key in self.moved():
                return key
        raise AssertionError

    def queues(self) -> tuple[list[str], list[int]]:
        """Return keys in the order of both queues, and who is remembered, as the database says."""
        execute = self.cache._engine._link().execute
        keys = execute("SELECT key FROM Cache ORDER BY rank >= 0, rank, rowid").fetchall()
        return [key for (key,) in keys], [
            ghost for (ghost,) in execute("SELECT h FROM Ghost ORDER BY n").fetchall()
        ]

    def modelled(self) -> tuple[list[str], list[int]]:
        main = sorted(self.model.main, key=lambda item: (item.rank, item.number))
        ghosts = [s3fifo.ghost_of((key, 1)) for key in self.model.ghosts]
        return [item.key for item in [*self.model.small, *main]], ghosts


@pytest.fixture
def story(monkeypatch, make_cache):
    monkeypatch.setattr(s3fifo, "FLOOR", 3)
    story = Story(make_cache)
    assert story.kept.is_behind
    assert story.queues() != story.modelled()
    return story


def test_close_writes_down_what_was_put_off(story):
    story.cache.close()

    assert story.queues() == story.modelled()


def test_write_other_than_set_writes_down_what_was_put_off(story):
    story.cache.touch("nothing")

    assert not story.kept.is_behind
    assert story.queues() == story.modelled()


def fail_to_add(cache: Any) -> None:
    with pytest.raises(KeyError):
        cache.incr("nothing", default=None)


def fail_in_a_transaction(cache: Any) -> None:
    with pytest.raises(ZeroDivisionError), cache.transact():
        cache["new"] = 1 // len(cache.get("nothing", ""))


def fail_to_begin(cache: Any) -> None:
    """Fails after what was put off was taken up by a transaction, and before anything else."""
    link = cache._engine._link()
    link.begin(1)
    cache._engine._culler.load(link)
    link.rollback()


@pytest.mark.parametrize("fail", [fail_to_add, fail_in_a_transaction, fail_to_begin])
def test_write_that_fails_loses_nothing_of_what_was_put_off(story, fail):
    fail(story.cache)
    story.cache.close()

    assert story.queues() == story.modelled()


def test_what_was_put_off_is_written_of_entries_that_others_left(story):
    first, second, *_ = story.modelled()[0][::-1]
    other = story.open()
    del other[first]
    other[second] = b"x" * 300  # Keeps its place, and counts for more.
    other.close()
    story.set("new")

    story.cache.close()
    assert story.cache.check() == []
    assert first not in story.cache
    assert story.cache[second] == b"x" * 300


def test_entry_that_is_stored_again_has_the_place_that_was_put_off(story):
    key = story.move_one()
    story.cache[key] = b"x" * 300
    story.cache.close()

    place = "SELECT rank >= 0 FROM Cache WHERE key = ?"
    assert story.cache._engine._link().execute(place, (key,)).get == 1
    assert story.cache.check() == []


def test_entry_that_expires_is_counted_out_of_the_place_that_was_put_off(story, clock):
    key = story.move_one(expire=5)
    clock.advance(10)
    story.cache.set("last", b"")
    story.cache.close()

    assert key not in list(story.cache)
    assert story.cache.check() == []


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_nothing_is_put_off_for_a_while_after_somebody_else_has_written(
    monkeypatch, story, seconds
):
    monkeypatch.setattr(waiting, "ALONE_FOR", seconds)
    other = story.open()
    other["other"] = b""
    other.close()
    was_behind = False
    for number in range(20):
        story.cache[f"new-{number}"] = b""
        was_behind |= story.kept.is_behind and number > 0

    assert was_behind is (seconds == 0)


@needs_fork
def test_killed_process_loses_places_and_ghosts_that_were_put_off_and_nothing_else(story):
    story.cache.close()
    before, ghosts = story.queues()
    pid = os.fork()
    if pid == 0:
        for number in range(3):
            story.cache[f"new-{number}"] = b""
            story.cache.get(f"new-{number}")
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    cache = story.open()
    assert cache.check() == []
    assert {f"new-{number}" for number in range(3)} <= set(cache)
    assert len(cache) == LIMIT
    assert len(story.queues()[1]) <= len(ghosts)
    assert len(set(before) & set(cache)) == LIMIT - 3


@needs_fork
def test_forked_child_leaves_to_its_parent_what_was_put_off(story):
    pid = os.fork()
    if pid == 0:
        os._exit(2 if story.kept.is_behind else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert story.kept.is_behind
    story.cache.close()

    assert story.queues() == story.modelled()


@pytest.mark.parametrize("size", [1, waiting.MOST + 1, 3 * waiting.MOST])
def test_window_keeps_the_first_entries_in_order_and_not_more_than_it_may(make_cache, size):
    queue = waiting.Queue(waiting.sql.MAIN, 4)
    link = make_cache()._engine._link()
    assert queue.next(link, 0, lambda _: None) is None
    for number in range(size):
        rank = float(number * 7 % size)
        queue.take(waiting.Candidate(rank, number + 1, None, 0, number, 1, 0, 0.0, 64))
    taken = []
    while len(taken) < min(size, waiting.FETCHED):
        taken.append(queue.next(link, 0, lambda _: None).rank)

    assert taken == sorted(taken) == [float(n) for n in range(len(taken))]
    assert len(queue._heap) <= waiting.MOST


def queues_with_a_ghost() -> s3fifo.Queues:
    """Return queues that have put something off."""
    queues = s3fifo.Queues()
    queues.unwritten.gone[1] = None
    return queues


def test_keep_of_an_earlier_write_gives_way_to_the_later_one():
    kept, earlier, later = waiting.Kept(), s3fifo.Queues(), s3fifo.Queues()
    earlier.unwritten.owed = 1
    database = b"id", 1
    assert kept.take(database, 0, 0) is None
    kept.keep(2, 0, later)
    kept.keep(1, 0, earlier)

    assert kept.left() == [earlier.unwritten]
    assert kept.take(database, 2, 0) is later


@pytest.mark.parametrize("other", [(b"other", 1), (b"id", 2)])
def test_nothing_is_known_of_another_database_whose_control_file_says_the_same(other):
    kept, queues = waiting.Kept(), queues_with_a_ghost()
    assert kept.take((b"id", 1), 0, 0) is None
    kept.keep(1, 0, queues)

    assert kept.take(other, 1, 0) is None
    assert kept.left() == []


def test_policy_without_queues_forgets_what_was_put_off(story):
    story.cache.reset("eviction_policy", "none")
    story.kept.leave(queues_with_a_ghost())
    story.cache.touch("nothing")

    assert not story.kept.is_behind
    assert story.queues()[1] == []
