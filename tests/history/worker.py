"""A process whose threads use the same caches as those of others, and record all that they do.

    python -m tests.history.worker DIRECTORY RECORDS SERIAL SEED [MUTATION]

Values are made of numbers that no other thread uses, so that it can be told which write a read saw.
"""

from __future__ import annotations

import mmap
import random
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from diskcache import Cache
from tests.history import mutations
from tests.history.checker import TAGS
from tests.history.records import (
    ADD,
    CLEARED,
    DELETE,
    EVERYWHERE,
    EVICTED,
    GET,
    IN,
    INCR,
    NOTHING,
    POP,
    SET,
    TOUCH,
    UNDONE,
    Part,
    Recorder,
)

THREADS: Final = 4
MOST_WORKERS: Final = 512
PROGRESS: Final = (1 + MOST_WORKERS * THREADS) * 8
"""Bytes of the file in which threads say how far they are; its first word tells them to stop."""

SINGLES: Final = range(24)
"""Groups of one key that holds values."""
COUNTERS: Final = range(24, 32)
"""Groups of one key that holds a number."""
TRIPLES: Final = range(32, 40)
"""Groups of keys that are used together."""
TRIPLE: Final = 3
LIMITED: Final = range(40, 64)
"""Groups of one key in a cache that is full."""

WHOLE: Final = 0
CULLED: Final = 1

READS: Final = 560
"""Single reads, beside 480 other operations."""
MOST_READS: Final = 5000
"""The same where the product is at fault: more readers meet a moment between two steps."""

SIZE_LIMIT: Final = 80_000
LARGE: Final = 1500
RECORDS_SIZE: Final = 256 * 2**20
"""Bytes of the file of a thread; only what is used takes space."""


def keys_of(group: int) -> int:
    """Return how many keys a group has."""
    return TRIPLE if group in TRIPLES else 1


def key_of(group: int, key: int) -> Any:
    """Return a key of the cache: of every type that the memory tier treats in its own way."""
    name = group * 10 + key
    return (f"k{name}", name, b"k%d" % name, ("k", name), name + 0.5, ("k", (name,)))[name % 6]


def value_of(number: int, is_large: bool = False) -> Any:
    """Return a value that tells its number."""
    kind = number % 10
    if is_large or kind == 9:
        return str(number).encode().ljust(LARGE, b".")
    if kind < 3:
        return number
    if kind < 5:
        return f"v{number}"
    return (number, "tuple") if kind < 7 else ["list", number, {"n": number}]


def number_of(value: Any) -> int:
    """Return the number of a value; `NOTHING` for None.

    Raises:
        ValueError: It is no value that was ever stored.
    """
    if value is None:
        return NOTHING
    if type(value) is int:
        return value
    if type(value) is bytes:
        number = int(value.rstrip(b"."))
    elif type(value) is str:
        number = int(value[1:])
    else:
        number = value[0] if type(value) is tuple else value[1]
    if value not in (value_of(number), value_of(number, is_large=True)):
        raise ValueError(f"nobody stored {value!r}")
    if type(value) is list:
        # Whoever gets this list from memory after us must not see this.
        value[2]["n"] = value[1] = "changed by whoever got it"
    return number


class Undone(Exception):  # noqa: N818 - it is a signal
    """Leaves a transaction."""


class User:
    """One thread."""

    def __init__(
        self, caches: tuple[Cache, Cache], recorder: Recorder, first: int, seed: str, reads: int
    ):
        self.cache, self.culled = caches
        self.recorder = recorder
        self.dice = random.Random(seed)
        self.number = first
        actions: dict[Callable[[], None], int] = {
            self.read: reads,
            self.store: 130,
            self.count: 90,
            self.remove: 40,
            self.expire: 30,
            self.transact: 40,
            self.many: 40,
            self.use_full: 100,
            self.fill: 8,
            self.evict: 1,
            self.clear: 1,
        }
        self.actions = [action for action, weight in actions.items() for _ in range(weight)]

    def new(self) -> int:
        self.number += 1
        return self.number

    def run(self, progress: Any, word: int) -> None:
        choice, actions, recorder = self.dice.choice, self.actions, self.recorder
        done = 0
        while not (progress[0] or recorder.is_full):
            for _ in range(50):
                choice(actions)()
            done += 50
            progress[word] = done

    def group(self) -> int:
        """Return a group of one key with values, often one of the first four."""
        random_ = self.dice.random
        return int(random_() * 4) if random_() < 0.5 else int(random_() * len(SINGLES))

    # -- Single operations --

    def read(self) -> None:
        dice = self.dice.random()
        if dice < 0.7:
            group, key = self.group(), 0
        elif dice < 0.8:
            group, key = self.dice.choice(COUNTERS), 0
        else:
            group, key = self.dice.choice(TRIPLES), self.dice.randrange(TRIPLE)
        self._read(self.cache, group, key)

    def _read(self, cache: Cache, group: int, key: int) -> None:
        name, recorder, dice = key_of(group, key), self.recorder, self.dice.random()
        if dice < 0.6:
            recorder.begin(group, key, GET)
            value = cache.get(name)
            recorder.end(number_of(value))
        elif dice < 0.8:
            recorder.begin(group, key, GET)
            try:
                value = cache[name]
            except KeyError:
                value = None
            recorder.end(number_of(value))
        elif dice < 0.95:
            recorder.begin(group, key, IN)
            recorder.end(name in cache)
        else:
            recorder.begin(group, key, GET)
            value, _, tag = cache.get(name, expire_time=True, tag=True)
            number = number_of(value)
            recorder.end(number)
            assert tag == (None if number == NOTHING else tag_of(group, number)), (tag, number)

    def store(self) -> None:
        group, key = self.group(), 0
        if self.dice.random() < 0.2:
            group, key = self.dice.choice(TRIPLES), self.dice.randrange(TRIPLE)
        self._store(self.cache, group, key)

    def _store(self, cache: Cache, group: int, key: int, is_large: bool = False) -> None:
        number, name, recorder = self.new(), key_of(group, key), self.recorder
        value, tag = value_of(number, is_large), tag_of(group, number)
        dice = self.dice.random()
        if dice < 0.5:
            recorder.begin(group, key, SET, number)
            cache.set(name, value, tag=tag)
            recorder.end(1)
        elif dice < 0.7:
            expire = self.dice.randrange(1, 40)
            recorder.begin(group, key, SET, number, expire)
            cache.set(name, value, expire=expire / 1000, tag=tag)
            recorder.end(1)
        elif dice < 0.85:
            recorder.begin(group, key, ADD, number)
            recorder.end(cache.add(name, value, tag=tag))
        else:
            expire = self.dice.randrange(1, 40)
            recorder.begin(group, key, ADD, number, expire)
            recorder.end(cache.add(name, value, expire=expire / 1000, tag=tag))

    def count(self) -> None:
        group, recorder = self.dice.choice(COUNTERS), self.recorder
        name, dice = key_of(group, 0), self.dice.random()
        if dice < 0.9:
            delta = self.dice.randrange(1, 4)
            recorder.begin(group, 0, INCR, delta)
            recorder.end(self.cache.incr(name, delta))
        elif dice < 0.95:
            expire = self.dice.randrange(1, 40)
            number = self.new()
            recorder.begin(group, 0, SET, number, expire)
            self.cache.set(name, number, expire=expire / 1000)
            recorder.end(1)
        else:
            recorder.begin(group, 0, POP)
            recorder.end(number_of(self.cache.pop(name)))

    def remove(self) -> None:
        group, recorder = self.group(), self.recorder
        name = key_of(group, 0)
        if self.dice.random() < 0.5:
            recorder.begin(group, 0, DELETE)
            recorder.end(self.cache.delete(name))
        else:
            recorder.begin(group, 0, POP)
            recorder.end(number_of(self.cache.pop(name)))

    def expire(self) -> None:
        group, recorder = self.group(), self.recorder
        expire = self.dice.randrange(1, 40) if self.dice.random() < 0.7 else None
        recorder.begin(group, 0, TOUCH, 0, expire)
        recorder.end(self.cache.touch(key_of(group, 0), None if expire is None else expire / 1000))

    # -- Several keys at a time --

    def transact(self) -> None:
        group, recorder, dice = self.dice.choice(TRIPLES), self.recorder, self.dice
        is_undone = dice.random() < 0.3
        parts = dice.randrange(2, 8)
        recorder.open(group)
        try:
            with self.cache.transact():
                for _ in range(parts):
                    recorder.part(self._part(group, dice.randrange(TRIPLE)))
                if is_undone:
                    raise Undone
        except Undone:
            recorder.close(UNDONE)
        else:
            recorder.close()

    def _part(self, group: int, key: int) -> Part:
        cache, name, dice = self.cache, key_of(group, key), self.dice.random()
        if dice < 0.5:
            return Part(key, GET, 0, number_of(cache.get(name)))
        if dice < 0.8:
            number = self.new()
            cache.set(name, value_of(number), tag=tag_of(group, number))
            return Part(key, SET, number, 1)
        if dice < 0.9:
            return Part(key, DELETE, 0, cache.delete(name))
        number = self.new()
        added = cache.add(name, value_of(number), tag=tag_of(group, number))
        return Part(key, ADD, number, added)

    def many(self) -> None:
        group, recorder = self.dice.choice(TRIPLES), self.recorder
        names = [key_of(group, key) for key in range(TRIPLE)]
        if self.dice.random() < 0.7:
            recorder.open(group)
            for key in range(TRIPLE):
                recorder.part(Part(key, GET))
            found = self.cache.get_many(names)
            recorder.results([number_of(found.get(name)) for name in names])
            recorder.close()
            return
        numbers = [self.new() for _ in names]
        tag = numbers[0] % TAGS
        numbers = [number for number in numbers if number % TAGS == tag]
        recorder.open(group)
        for key, number in enumerate(numbers):
            recorder.part(Part(key, SET, number, 1))
        pairs = zip(names, map(value_of, numbers), strict=False)
        self.cache.set_many(dict(pairs), tag=tag)
        recorder.close()

    # -- A full cache --

    def use_full(self) -> None:
        group = self.dice.choice(LIMITED)
        if self.dice.random() < 0.7:
            self._read(self.culled, group, 0)
        else:
            self._store(self.culled, group, 0, is_large=True)

    def fill(self) -> None:
        """Make others leave; nobody reads these."""
        self.culled.set(("fill", self.dice.randrange(60)), b"x" * LARGE)

    # -- All keys --

    def evict(self) -> None:
        tag, which = self.dice.randrange(TAGS), self._which()
        self.recorder.begin(EVERYWHERE, which, 0, tag, kind=EVICTED)
        (self.cache, self.culled)[which].evict(tag)
        self.recorder.end()

    def clear(self) -> None:
        which = self._which()
        self.recorder.begin(EVERYWHERE, which, 0, kind=CLEARED)
        (self.cache, self.culled)[which].clear()
        self.recorder.end()

    def _which(self) -> int:
        return WHOLE if self.dice.random() < 0.8 else CULLED


def tag_of(group: int, number: int) -> int | None:
    """Return the tag of a value."""
    return None if group in COUNTERS else number % TAGS


def open_caches(directory: Path) -> tuple[Cache, Cache]:
    """Open the caches that all workers share."""
    common: dict[str, Any] = {"disk_min_file_size": 1024, "pickle": "never"}
    return (
        Cache(directory / "whole", **common),
        Cache(directory / "culled", size_limit=SIZE_LIMIT, **common),
    )


def main(directory: str, records: str, serial: str, seed: str, mutation: str = "") -> None:
    """Work until told to stop, or killed."""
    warnings.simplefilter("error")
    if mutation:
        mutations.ALL[mutation]()
    sys.setswitchinterval(0.0005)
    with (Path(records) / "progress").open("r+b") as file:
        progress = memoryview(mmap.mmap(file.fileno(), PROGRESS)).cast("Q")
    caches = open_caches(Path(directory))
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        recorder = Recorder(Path(records) / f"{serial}-{thread}", RECORDS_SIZE)
        first = (int(serial) * THREADS + thread + 1) << 32
        reads = MOST_READS if mutation else READS
        user = User(caches, recorder, first, f"{seed}/{serial}/{thread}", reads)
        try:
            user.run(progress, 1 + int(serial) * THREADS + thread)
        except BaseException as exc:
            failures.append(exc)
            progress[0] = 1
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cache in caches:
        cache.close()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
