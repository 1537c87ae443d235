"""Methods that return a value or compute it, of `Cache` and of `FanoutCache`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from diskcache.codecs import plain
from diskcache.codecs.base import MODE_DATA
from diskcache.computing.steps import Computer
from diskcache.computing.terms import Expire, Seconds, Terms
from diskcache.computing.ways import Blocking, Stale, Version, run
from diskcache.entry import (
    EXPIRE_TIME,
    FAILURE_SPAN,
    HOLD_FAILED,
    HOLD_SHIFT,
    VERSION,
    EncodedKey,
    Only,
    Tag,
    mode_in_grace,
)
from diskcache.failures import Failure
from diskcache.flight import LockFile, Place, Share, place_of
from diskcache.holding import hold_of
from diskcache.memoizing import Memoizer, check_name, memoizer
from diskcache.sentinels import ENOVAL

if TYPE_CHECKING:
    from diskcache.cache import Cache

T = TypeVar("T")


class CacheStore:
    """A cache, as the steps of a computation use it.

    Args:
        cache: A `Cache` or a `FanoutCache`.
        home: Returns the `Cache` that a key is in.
        find: Returns the live value of a key, or `ENOVAL`; by default `get` of the cache.
    """

    def __init__(
        self,
        cache: Any,
        home: Callable[[Any], Cache],
        find: Callable[[Any], Any] | None = None,
    ) -> None:
        self._cache = cache
        self._home = home
        self._find = find
        self.clock = home("")._clock
        self._is_readonly = bool(home("")._options["readonly"])

    def find(self, key: Any) -> Any:
        """Return the live value; `ENOVAL` if there is none."""
        return self._cache.get(key, ENOVAL) if self._find is None else self._find(key)

    def find_again(self, key: Any) -> Any:
        """Return the live value of a key that was just looked for; it is not counted again."""
        if self._find is not None:
            return self._find(key)
        cache = self._home(key)
        encoded = cache._encode_key(key)
        row = cache._engine.get(encoded, cache._now())
        return ENOVAL if row is None else cache._load(encoded, row)

    def find_until(self, key: Any) -> tuple[Any, float | None, int | None]:
        """Return the live value, when it expires, and its version."""
        found: tuple[Any, float | None, int | None]
        found = self._cache.get(key, ENOVAL, expire_time=True, version=True)
        return found

    def find_many(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the live values."""
        found: dict[Any, Any] = self._cache.get_many(keys)
        return found

    def find_many_again(self, keys: list[Any]) -> dict[Any, Any]:
        """Return the live values of keys that were just looked for; they are not counted again."""
        found: dict[Any, Any] = self._cache._find_many(keys)
        return found

    def find_stale(self, key: Any) -> Stale | None:
        """Return what is kept of a key beyond its expiry."""
        cache = self._home(key)
        encoded = cache._encode_key(key)
        found = cache._engine.find_stale(encoded, cache._now())
        if found is None:
            return None
        row, held = found
        value = cache._load(encoded, row)
        if value is ENOVAL:
            return None
        if held == HOLD_FAILED:
            failure = Failure.parsed(value)
            return None if failure is None else Stale(None, failure, 0, row[VERSION])
        return Stale(value, None, (row[EXPIRE_TIME] or 0) + held, row[VERSION])

    def save(
        self,
        key: Any,
        value: Any,
        expire: float | None,
        tag: Tag,
        grace: float,
        version: Version = ENOVAL,
    ) -> bool:
        """Keep a value, if a version is there."""
        if self._is_readonly:
            return False
        # A subclass may have a `set` of its own, that knows nothing of grace and of versions.
        more: dict[str, Any] = {"grace": grace} if grace else {}
        if version is not ENOVAL:
            more["if_version"] = version
        stored: bool = self._cache.set(key, value, expire, tag=tag, retry=True, **more)
        return stored

    @property
    def saves_together(self) -> bool:
        """Whether `save_many` does what `save` does: no subclass has a `set` of its own."""
        module: str = type(self._cache).set.__module__
        return module.partition(".")[0] == __name__.partition(".")[0]

    def save_many(
        self, entries: list[tuple[Any, Any, float | None]], tag: Tag, version: Version
    ) -> bool:
        """Keep values, each for some seconds, if a version is there; tell whether all are kept."""
        if self._is_readonly:
            return False
        only = Only.ABSENT if version is None else Only.ALWAYS
        stored: int = self._cache._save_many(entries, tag, only)
        return stored == len(entries)

    def save_failure(self, key: Any, failure: Failure, seconds: float, tag: Tag) -> None:
        """Keep a failure as an entry that has long expired and is in grace."""
        if self._is_readonly:
            return
        cache = self._home(key)
        encoded, now = cache._encode_key(key), cache._now()
        mode, data = cache._codec.protected(MODE_DATA, plain.dumps(tuple(failure)), encoded)
        mode = mode_in_grace(mode, FAILURE_SPAN) | HOLD_FAILED << HOLD_SHIFT
        # Never one that is live, so that nothing takes it for a value.
        expire_time = now + min(seconds, FAILURE_SPAN / 2) - FAILURE_SPAN
        cache._engine.put(encoded, (mode, data, None), expire_time, tag, now, None, Only.ABSENT)

    def hold_off(self, key: Any, stale: Stale, until: float) -> None:
        """Let nobody compute a value in grace anew before a moment."""
        if not self._is_readonly:
            cache = self._home(key)
            cache._engine.hold_off(cache._encode_key(key), stale.version, until, None)

    def drop(self, key: Any) -> bool:
        """Forget a value."""
        dropped: bool = self._cache.delete(key, retry=True)
        return dropped

    def drop_calls(self, name: str) -> int:
        """Forget the values of all keys that start with a name."""
        dropped: int = self._cache._drop_calls(name)
        return dropped

    def place(self, key: Any) -> tuple[Place, Share | None] | None:
        """Return the place of a key, unless this thread or task is in a transaction or a bypass."""
        cache = self._home(key)
        is_bypassed = cache._switch is not None and cache._switch.is_on()
        if is_bypassed or cache._engine.in_transaction() or self.hold() is not None:
            return None
        place, share = cache._flight_place(cache._encode_key(key))
        return place, None if self._is_readonly else share

    def hold(self) -> Any:
        """Return the open transaction of an event loop that the task is in; None for none."""
        return hold_of(self._cache.directory)

    def disconnect(self) -> None:
        """Close the connections of this thread."""
        self._cache.close(everywhere=False)


class ComputedMethods:
    """Get or compute."""

    def _home(self, key: Any) -> Cache:
        """Return the cache that a key is in."""
        raise NotImplementedError

    def _flight_place(self, key: EncodedKey) -> tuple[Place, Share]:
        """Return where a value is computed, and what tells other processes."""
        cache: Any = self
        return place_of(cache._files._directory, key), LockFile

    @property
    def _computed(self) -> CacheStore:
        return CacheStore(self, self._home)

    def get_or_set(
        self,
        key: Any,
        func: Callable[[], T],
        *,
        expire: Expire = None,
        tag: Tag = None,
        lock: bool = True,
        lock_timeout: float | None = None,
        share_errors: bool = True,
        grace: Seconds | None = None,
        backoff: Seconds | None = None,
        refresh: float | None = None,
        soft_timeout: float | None = None,
        hard_timeout: float | None = None,
        jitter: float | None = None,
        when: Callable[[T], object] | None = None,
        errors: Mapping[type[Exception], Seconds] | None = None,
    ) -> T:
        """Return the value of *key*, or call *func*, store what it gives, and return that.

        Of all threads, tasks and processes that ask for a missing value at a time one calls its
        function; the others wait, and get the value, or the exception. If the one is interrupted,
        or its process killed, another takes its place at once. A function that asks for the value
        that it computes gets an error; of several that wait for each other in a ring, one computes
        without waiting. Inside a transaction nobody waits. May wait for other processes.

        A value that cannot be stored is returned all the same, and the log says why.

        Cost: of a hit, a `get`; of a miss, the call, a `set`, and a file made and removed, or on a
        server three more round trips.

        Args:
            key: Key to look up.
            func: Called without arguments. `ENOVAL` is returned, but not stored.
            expire: Seconds until the value expires, a `timedelta`, or a function of the value that
                returns either; None for never. With 0 or less nothing is stored.
            tag: Label for `evict`.
            lock: Let one compute; False lets all.
            lock_timeout: Seconds to wait for another, and then compute too; None for as long as
                that one lives.
            share_errors: Raise what the one raised; False calls the own function instead. Another
                process gives the class of the exception if that is built in or of this library,
                else `LoaderError`.
            grace: Seconds beyond its expiry that a value is kept, to be returned while one caller
                computes, and where *func* raises.
            backoff: Seconds for which a value in grace is returned, and *func* left alone, after it
                raised; rounded up to whole ones. After a refresh that failed, in this process.
            refresh: Fraction of its life after which a value is computed anew, in the background.
                An *expire* that is a function is asked at each hit, and must not depend on time.
            soft_timeout: Seconds after which a value in grace is returned to the one who computes;
                the computation goes on in the background.
            hard_timeout: Seconds after which `LoaderTimeoutError` is raised; the same.
            jitter: Fraction of its life by which a value expires earlier, at random.
            when: Given the value; says whether to store it.
            errors: How many seconds exceptions of which classes are remembered: until then asking
                raises them, and does not call *func*.

        Raises:
            RecursiveLoaderError: *func* asks for *key* itself, or calls with *hard_timeout* are
                more than eight deep.
            LoaderTimeoutError: *hard_timeout* is over.
            LoaderError: *func* failed in another process, with an exception not known here.
            ValueError: An option is out of range, or needs another one.

        Example:
            >>> cache.get_or_set('answer', lambda: 6 * 7, expire=60)
            42
            >>> cache.get_or_set('answer', lambda: 'not called')
            42
        """
        if refresh is None:
            cache: Any = self
            value: T = cache.get(key, ENOVAL)
            if value is not ENOVAL:
                return value
        terms = Terms(
            expire=expire,
            tag=tag,
            lock=lock,
            lock_timeout=lock_timeout,
            share_errors=share_errors,
            grace=grace,
            backoff=backoff,
            refresh=refresh,
            soft_timeout=soft_timeout,
            hard_timeout=hard_timeout,
            jitter=jitter,
            when=when,
            errors=errors or {},
        )
        store = self._computed
        computer = Computer(store, terms, name=repr(key))
        ask = computer.miss if refresh is None else computer.get
        result: T = run(ask(Blocking(store), key, func))
        return result

    def get_or_set_many(
        self,
        keys: Iterable[Any],
        func: Callable[[list[Any]], Mapping[Any, Any]],
        *,
        expire: Expire = None,
        tag: Tag = None,
        lock: bool = True,
        lock_timeout: float | None = None,
        jitter: float | None = None,
        when: Callable[[Any], object] | None = None,
    ) -> dict[Any, Any]:
        """Return the values of *keys*; compute those that are missing with one call.

        *func* is given a list of the missing keys that nobody else computes, and returns a mapping;
        keys that are not in it stay missing. Those that another one computes are waited for
        afterwards; should it not come to an end, *func* is called for one of them, and then for all
        the others that nobody computes.

        If *when* or *expire* raises for one value, the others are stored before that is raised.

        Cost: a `get_many`, the call, a `set_many`, and for each key a file made and removed.

        Args:
            keys: Hashable keys to look up.
            func: Computes values.
            expire: As for `get_or_set`.
            tag: As for `get_or_set`.
            lock: As for `get_or_set`.
            lock_timeout: As for `get_or_set`.
            jitter: As for `get_or_set`.
            when: As for `get_or_set`.

        Returns:
            The values by their keys, in the order of *keys*.

        Example:
            >>> cache['a'] = 1
            >>> cache.get_or_set_many(['a', 'bb'], lambda keys: {key: len(key) for key in keys})
            {'a': 1, 'bb': 2}
        """
        from diskcache.computing.many import get_many

        terms = Terms(
            expire=expire,
            tag=tag,
            lock=lock,
            lock_timeout=lock_timeout,
            jitter=jitter,
            when=when,
        )
        store = self._computed
        computer = Computer(store, terms, name="many values")
        return run(get_many(computer, Blocking(store), list(keys), func, store))

    def memoize(
        self,
        name: str | None = None,
        typed: bool = False,
        expire: Expire = None,
        tag: Tag = None,
        ignore: Collection[int | str] = (),
        *,
        lock: bool = False,
        lock_timeout: float | None = None,
        share_errors: bool = True,
        grace: Seconds | None = None,
        backoff: Seconds | None = None,
        refresh: float | None = None,
        soft_timeout: float | None = None,
        hard_timeout: float | None = None,
        jitter: float | None = None,
        when: Callable[[Any], object] | None = None,
        errors: Mapping[type[Exception], Seconds] | None = None,
        key: Callable[..., Any] | str | None = None,
        version: object = None,
    ) -> Memoizer:
        """Return a decorator that caches the results of a function, for every process.

        Results are kept under `function.__cache_key__(...)`. None is a result; exceptions are
        not. With an *expire* of 0 or less, results are looked up but not stored. Coroutine
        functions, generators (whose items are all made first) and methods can be decorated too.

        The decorated function has `invalidate(...)`, `refresh(...)`, `peek(...)`, `bypass(...)`,
        `clear()` and `cache_info()`; see `diskcache.memoizing.Memoized`.

        Cost: of a hit, a `get`; of a miss, the call and a `set`.

        Args:
            name: Starts the keys; None for the full name of the function.
            typed: Keep arguments of different types apart.
            expire: Seconds until a result expires, a `timedelta`, or a function of the result.
            tag: Label for `evict`.
            ignore: Positions and names of arguments that do not matter.
            lock: Let one of all who miss a result compute it, the others wait; see `get_or_set`.
            lock_timeout: As for `get_or_set`; so are the following.
            share_errors: As there.
            grace: As there.
            backoff: As there.
            refresh: As there.
            soft_timeout: As there.
            hard_timeout: As there.
            jitter: As there.
            when: As there.
            errors: As there.
            key: Makes the key of the arguments: a function, or text with names of arguments in
                braces (`'{user.id}'`). What it gives follows the name.
            version: Follows the name; another one does not find the results of this one.

        Raises:
            TypeError: The parentheses after `memoize` were forgotten.
            ValueError: An option is out of range, or needs another one.

        Example:
            >>> @cache.memoize(expire=60)
            ... def square(number):
            ...     return number * number
            >>> square(4), square(4)
            (16, 16)
            >>> square.__cache_key__(4) in cache
            True
        """
        check_name(name)
        terms = Terms(
            expire=expire,
            tag=tag,
            lock=lock,
            lock_timeout=lock_timeout,
            share_errors=share_errors,
            grace=grace,
            backoff=backoff,
            refresh=refresh,
            soft_timeout=soft_timeout,
            hard_timeout=hard_timeout,
            jitter=jitter,
            when=when,
            errors=errors or {},
        )
        cache: Any = self
        return memoizer(
            self._computed,
            terms,
            load=cache._result,
            recall=cache._recalled,
            name=name,
            typed=typed,
            ignore=ignore,
            key=key,
            version=version,
        )
