"""`DjangoCache`: a cache backend for Django.

The secret that signs pickles comes from the project's `SECRET_KEY`, so that model instances,
QuerySets and responses can be cached without further set-up, and wherever the same project runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from io import BufferedIOBase
from typing import Any, Final

from diskcache.clock import SYSTEM_CLOCK, Clock
from diskcache.computing.terms import Terms
from diskcache.connecting import is_address, without_password
from diskcache.entry import Tag
from diskcache.errors import MissingExtraError, SettingError
from diskcache.integrations.delegating import Delegating
from diskcache.integrations.memoized import DjangoStore
from diskcache.integrations.off_loop import PromptReads, closed, off_loop
from diskcache.integrations.shared import Arguments, Shared, shared
from diskcache.memoizing import Memoizer, check_name, memoizer
from diskcache.sentinels import ENOVAL

try:
    from django import conf
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
    from django.core.exceptions import ImproperlyConfigured
    from django.utils.crypto import salted_hmac
except ModuleNotFoundError as exc:
    raise MissingExtraError(
        f"DjangoCache needs Django ({exc}): install it with: pip install 'diskcache[django]'"
    ) from exc

DATABASE_TIMEOUT: Final = 60.0
"""Seconds to wait for a write lock where the settings do not say."""

ANSWER_TIMEOUT: Final = 5.0
"""Seconds to wait for an answer of a server where the settings do not say."""

_CONTEXT: Final = "diskcache.DjangoCache: signing of pickles"
"""Keeps the secret apart from whatever else is derived from `SECRET_KEY`."""

_OWN_OPTIONS: Final = frozenset({"MAX_ENTRIES", "CULL_FREQUENCY", "VALIDATE_KEYS", "KEEP_OPEN"})


class DjangoCache(Delegating, PromptReads, BaseCache):
    """A cache backend for Django on a `FanoutCache`.

    Does what Django's documentation says of the cache API, and more: tags, files, `pop`,
    `memoize`, and counters that may start at a default. Keys are made by Django, so a key has a
    prefix and a version, and is text. *version* is that of the key; None for the one configured.

    *timeout* is in seconds: `DEFAULT_TIMEOUT` for the one configured, None for never; 0, and less,
    for an entry that has expired already.

    Every method has an asynchronous counterpart, `aget` for `get` and so on, that takes the same
    arguments and does the same: at once if memory knows the answer, else in a thread of its own
    pool.

    Methods that write take *retry*: true waits for the write lock without limit, false for
    `DATABASE_TIMEOUT` seconds, and then returns False or None, as for nothing done, which
    `info().refused` counts. Reading waits for nobody.

    Thread-, process- and fork-safe. Objects with the same settings share a `FanoutCache` in a
    process. Pickling keeps everything but a secret in `OPTIONS`.

    Args:
        directory: `LOCATION`: path of the directory, or URL of a server; see `diskcache.connect`.
        params: The other entries of `CACHES`: those of Django; `SHARDS`, for as many as the
            directory has, or 8; `DATABASE_TIMEOUT`, 60 seconds by default; and `OPTIONS`:
            keywords of `FanoutCache`, `MAX_ENTRIES`, `CULL_FREQUENCY`, `VALIDATE_KEYS` and
            `KEEP_OPEN`.

    Raises:
        DiskCacheError: The cache cannot be opened; the class and the message say why.

    Example:
        >>> cache = DjangoCache('django-example', {'TIMEOUT': 300})
        >>> cache.set('key', 'value', tag='data')
        True
        >>> cache.get('key'), cache.get('missing', 'default')
        ('value', 'default')
        >>> cache.close()
    """

    def __init__(self, directory: str | os.PathLike[str], params: Mapping[str, Any]) -> None:
        super().__init__(params)
        options = dict(params.get("OPTIONS") or {})
        clock: Clock = options.get("clock", SYSTEM_CLOCK)
        self._directory, self._params = os.fspath(directory), dict(params)
        self._now = clock.time
        self._readonly = bool(options.get("readonly"))
        self._validates = bool(options.get("VALIDATE_KEYS", True))
        self._keeps_open = bool(options.get("KEEP_OPEN", True))
        self._arguments = self._checked_arguments(options)
        self._open()

    # -- Construction --

    def _checked_arguments(self, options: dict[str, Any]) -> Arguments:
        """Return what to open, as Django's settings and the options say."""
        most = frequency = None
        if "max_entries" in self._params or options.get("MAX_ENTRIES") is not None:
            most, frequency = self._max_entries, self._cull_frequency
            if most < 1 or frequency < 0:
                raise SettingError(
                    "MAX_ENTRIES must be at least 1, and CULL_FREQUENCY at least 0: got"
                    f" {most!r} and {frequency!r}"
                )
        keywords = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
        if "secret" not in keywords and keywords.get("pickle", "signed") == "signed":
            keywords["secret"] = _derived_secrets()
        timeout = self._params.get("DATABASE_TIMEOUT")
        return Arguments(
            self._directory,
            self._params.get("SHARDS"),
            self._patience(timeout),
            keywords,
            most,
            frequency or 0,
        )

    def _patience(self, timeout: float | None) -> float:
        if timeout is not None:
            return timeout
        return ANSWER_TIMEOUT if is_address(self._directory) else DATABASE_TIMEOUT

    def _open(self) -> None:
        self._shared: Shared = shared(self._arguments)
        self._cache = self._shared.cache
        self._limit = self._shared.limit

    def __getattr__(self, name: str) -> Any:
        if name in ("_cache", "_limit") and "_arguments" in vars(self):
            self._open()
            return vars(self)[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        params = dict(self._params)
        options = dict(params.get("OPTIONS") or {})
        if "secret" in options:
            # The other side looks for one where every cache does, not in SECRET_KEY.
            params["OPTIONS"] = {**options, "secret": None}
        return type(self), (self._directory, params)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({without_password(self._directory)!r})"

    # -- Keys and timeouts --

    def _key(self, key: Any, version: int | None) -> Any:
        made = self.make_key(key, version=version)
        # Keys of memoized functions are tuples: nobody means them for memcached.
        if self._validates and type(key) is not tuple:
            self.validate_key(made)
        return made

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """Return seconds until an entry expires; None for never.

        Example:
            >>> cache.get_backend_timeout(), cache.get_backend_timeout(0)
            (300, -1)
        """
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        # An entry that expires this very moment could still be seen.
        return -1 if timeout == 0 else timeout

    def _stored(self, key: Any, entries: int = 1) -> None:
        if self._limit is not None:
            self._limit.stored(key, entries)

    # -- Single keys --

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Tag = None,
        retry: bool = True,
    ) -> bool:
        """Store *value* only if *key* has no live entry; see `set`. Of many callers one succeeds.

        Returns:
            Whether it was stored.

        Example:
            >>> cache.add('once', 1), cache.add('once', 2), cache.get('once')
            (True, False, 1)
        """
        made, expire = self._key(key, version), self.get_backend_timeout(timeout)
        stored = self._cache.add(made, value, expire, read, tag, retry)
        if stored:
            self._stored(made)
        return stored

    def get(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        """Return the value of *key*, or *default* if it has no live entry.

        Args:
            key: Key to look up.
            default: What to return for a missing or expired entry.
            version: Version of the key.
            read: Return an open binary file, if the value is bytes kept in a file.
            expire_time: Also return when the entry expires, seconds since the epoch or None.
            tag: Also return the tag.
            retry: Accepted for symmetry.

        Example:
            >>> cache.set('k', 'v', timeout=None, tag='t')
            True
            >>> cache.get('k'), cache.get('k', expire_time=True, tag=True)
            ('v', ('v', None, 't'))
        """
        return self._cache.get(self._key(key, version), default, read, expire_time, tag, retry)

    def read(self, key: Any, version: int | None = None) -> Any:
        """Return the value of *key* as an open binary file, if it is kept in a file as bytes.

        Its `name` is the path of the file: a web server can send it, see the page on Django.

        Raises:
            KeyError: It has no live entry.

        Example:
            >>> from io import BytesIO
            >>> cache.set('k', BytesIO(b'content'), read=True)
            True
            >>> with cache.read('k') as reader:
            ...     reader.read()
            b'content'
        """
        return self._cache.read(self._key(key, version))

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        read: bool = False,
        tag: Tag = None,
        retry: bool = True,
    ) -> bool:
        """Store *value* under *key*, replacing value, timeout and tag of an old entry.

        Args:
            key: Key to store it under.
            value: Anything that is plain data or can be pickled.
            timeout: Seconds until it expires.
            version: Version of the key.
            read: Treat *value* as an open binary file and copy its content.
            tag: Label for `evict`.
            retry: Wait for the write lock without limit.

        Returns:
            True; False if the write lock was not to be had in time, or if the value alone is
            larger than the size limit.

        Raises:
            pickle.PickleError: It is neither plain data nor can it be pickled. What else the
                methods of its class raise passes through.

        Example:
            >>> cache.set('key', 'value', timeout=60, tag='data')
            True
        """
        made, expire = self._key(key, version), self.get_backend_timeout(timeout)
        stored = self._cache.set(made, value, expire, read, tag, retry)
        if stored:
            self._stored(made)
        return stored

    def touch(
        self,
        key: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        retry: bool = True,
    ) -> bool:
        """Give a live entry a new timeout; tell whether there was one.

        Example:
            >>> cache.touch('missing', 60)
            False
        """
        expire = self.get_backend_timeout(timeout)
        return self._cache.touch(self._key(key, version), expire, retry)

    def pop(
        self,
        key: Any,
        default: Any = None,
        version: int | None = None,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = True,
    ) -> Any:
        """Remove the entry of *key* and return what `get` would have.

        Example:
            >>> cache.set('k', 1)
            True
            >>> cache.pop('k'), cache.pop('k', 'gone')
            (1, 'gone')
        """
        return self._cache.pop(self._key(key, version), default, expire_time, tag, retry)

    def delete(self, key: Any, version: int | None = None, retry: bool = True) -> bool:
        """Remove the entry of *key*; tell whether there was a live one.

        Example:
            >>> cache.delete('missing')
            False
        """
        return self._cache.delete(self._key(key, version), retry)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Tell whether *key* has a live entry, without loading or counting it.

        Example:
            >>> cache.has_key('missing'), 'missing' in cache
            (False, False)
        """
        return self._key(key, version) in self._cache

    def incr(
        self,
        key: Any,
        delta: float = 1,
        version: int | None = None,
        default: float | None = None,
        retry: bool = True,
    ) -> Any:
        """Add *delta* to a number and return the sum. Its timeout stays.

        Args:
            key: Key of the number.
            delta: What to add.
            version: Version of the key.
            default: What a missing entry is taken for; it is then stored without a timeout.
            retry: Wait for the write lock without limit.

        Returns:
            The sum; None if the write lock was not to be had in time.

        Raises:
            ValueError: There is no live entry and *default* is None.
            TypeError: The entry is not a number.

        Example:
            >>> cache.incr('visits', default=0), cache.incr('visits', 9)
            (1, 10)
        """
        made = self._key(key, version)
        try:
            total = self._cache.incr(made, delta, default, retry)
        except KeyError:
            raise ValueError(f"Key {key!r} not found") from None
        self._stored(made)
        return total

    def decr(
        self,
        key: Any,
        delta: float = 1,
        version: int | None = None,
        default: float | None = None,
        retry: bool = True,
    ) -> Any:
        """Subtract *delta* from a number and return the difference; see `incr`.

        Example:
            >>> cache.decr('stock', default=5)
            4
        """
        return self.incr(key, -delta, version, default, retry)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move an entry to another version of its key, and return that. Timeout and tag stay.

        Raises:
            ValueError: There is no live entry.

        Example:
            >>> cache.set('k', 'v', version=1)
            True
            >>> cache.incr_version('k', version=1), cache.get('k', version=2)
            (2, 'v')
        """
        old = self.version if version is None else version
        value, expire_time, tag = self.get(key, ENOVAL, old, True, True, True)
        if value is ENOVAL:
            raise ValueError(f"Key {key!r} not found")
        timeout = None if expire_time is None else expire_time - self._now()
        try:
            is_file = isinstance(value, BufferedIOBase)
            is_moved = self.set(key, value, timeout, old + delta, is_file, tag)
        finally:
            if isinstance(value, BufferedIOBase):
                value.close()
        if is_moved:
            self.delete(key, old)
        return old + delta

    # -- Many keys --

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values of those of *keys* that have live entries.

        Cost: one read transaction for each shard concerned.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2})
            []
            >>> cache.get_many(['a', 'b', 'c'])
            {'a': 1, 'b': 2}
        """
        made = {self._key(key, version): key for key in keys}
        return {made[name]: value for name, value in self._cache.get_many(made).items()}

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Store many entries, all of them or none, waiting for the write locks.

        Cost: one write transaction for each shard concerned, all at once.

        Returns:
            The keys that were not stored: those whose value alone is larger than the size limit.

        Example:
            >>> cache.set_many({'a': 1, 'b': 2}, timeout=60)
            []
        """
        entries = {self._key(key, version): value for key, value in data.items()}
        expire = self.get_backend_timeout(timeout)
        failed: list[Any] = []
        if self._cache.set_many(entries, expire, retry=True) < len(entries):
            # Only the number is known: what is stored a second time is the same.
            failed = [key for key in data if not self.set(key, data[key], timeout, version)]
        if entries:
            self._stored(next(reversed(entries)), len(entries))
        return failed

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Remove many entries in one step, waiting for the write locks.

        Example:
            >>> cache.delete_many(['a', 'b', 'c'])
        """
        self._cache.delete_many([self._key(key, version) for key in keys], retry=True)

    # -- Connections --

    def close(self, **kwargs: Any) -> None:
        """End a request. Django calls this after each one.

        Connections stay open until their thread ends, since to connect again would be most of what
        a request costs, and so does what is in memory. With `'KEEP_OPEN': False` in `OPTIONS`
        those of this thread are closed, and no others. In both cases the next use connects to a
        new directory if the old one was removed meanwhile.

        Example:
            >>> cache.close()
        """
        is_current = self._shared.is_current
        if not (self._keeps_open and is_current):
            self._shared.cache.close(everywhere=False)
        if not is_current:
            self.__dict__.pop("_cache", None)
            self.__dict__.pop("_limit", None)

    async def aclose(self, **kwargs: Any) -> None:
        """Close the connections of all threads that are idle: it is not known which were used.

        The threads that served event loops end, when they have done what was asked of them.
        """
        await closed(self._shared.cache)

    # -- Memoizing --

    def memoize(
        self,
        name: str | None = None,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        typed: bool = False,
        tag: Tag = None,
        ignore: Collection[int | str] = (),
        *,
        key: Callable[..., Any] | str | None = None,
        **more: Any,
    ) -> Memoizer:
        """Return a decorator that caches the results of a function; see `Cache.memoize`.

        Django turns the key into text, so arguments are told apart by their `repr`: one that shows
        an address is never found again.

        Args:
            name: Starts the keys; None for the full name of the function.
            timeout: Seconds until a result expires; with 0, and less, nothing is stored.
            version: Version of the keys.
            typed: Keep arguments of different types apart.
            tag: Label for `evict`.
            ignore: Positions and names of arguments that do not matter.
            key: As for `Cache.memoize`.
            **more: The options of `Cache.memoize` from `lock` to `errors`.

        Raises:
            TypeError: The parentheses after `memoize` were forgotten.

        Example:
            >>> @cache.memoize(timeout=60)
            ... def square(number):
            ...     return number * number
            >>> square(4), square(4)
            (16, 16)
        """
        check_name(name)

        terms = Terms(
            **{"lock": False, "expire": self.get_backend_timeout(timeout), "tag": tag, **more}
        )
        store = DjangoStore(self, self._cache, version)
        return memoizer(
            store, terms, load=store.find, name=name, typed=typed, ignore=ignore, key=key
        )

    # -- Asynchronous counterparts --

    _aget = off_loop(get)
    _ahas_key = off_loop(has_key)
    aadd = off_loop(add)
    aread = off_loop(read)
    aset = off_loop(set)  # noqa: A003 - the method is meant
    atouch = off_loop(touch)
    apop = off_loop(pop)
    adelete = off_loop(delete)
    aincr = off_loop(incr)
    adecr = off_loop(decr)
    aincr_version = off_loop(incr_version)
    aget_many = off_loop(get_many)
    aset_many = off_loop(set_many)
    adelete_many = off_loop(delete_many)


def _derived_secrets() -> list[bytes] | None:
    """Return secrets made of the project's keys, the one that signs first; None without any."""
    try:
        settings = conf.settings
        keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured:
        return None
    return [
        salted_hmac(_CONTEXT, "", secret=key, algorithm="sha256").digest() for key in keys if key
    ]
