"""Addresses of servers: what a URL says, and a client made of it.

    redis://[user:password@]host[:port][/db]?namespace=app      one server; rediss:// with TLS
    valkey:// and valkeys://                                    the same
    unix://[user:password@]/path/to/socket?db=0&namespace=app
    redis+cluster://host:port[,host:port...]?namespace=app      rediss+cluster:// with TLS
    redis+sentinel://host:port[,host:port...]/name[/db]?namespace=app

The query may also hold `shards`, and what redis-py takes there, such as `ssl_ca_certs`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from diskcache.errors import SettingError

SCHEME: Final = re.compile(r"(redis|valkey)(s?)(\+cluster|\+sentinel)?|unix")
NAMESPACE: Final = re.compile(r"[^{}\s\x00-\x1f\x7f\ud800-\udfff*?\[\]\\]{1,200}")
"""What a namespace may be: no braces, which mark the slot, and nothing that patterns use."""

CLUSTER_SHARDS: Final = 16
"""Shards on a cluster, unless told otherwise."""
MOST_SHARDS: Final = 1024
PORT: Final = 6379
SENTINEL_PORT: Final = 26379


class Address(NamedTuple):
    """A server, or several, and the cache on it."""

    url: str
    """As given."""
    kind: str
    """`server`, `cluster` or `sentinel`."""
    hosts: tuple[tuple[str, int], ...]
    options: dict[str, Any]
    """For the connections of redis-py."""
    namespace: str
    shards: int | None
    """None to take what is there, or the default."""
    service: str = ""
    """Name of the master, for sentinels."""

    @property
    def safe(self) -> str:
        """The URL without a password."""
        return without_password(self.url)

    @property
    def is_cluster(self) -> bool:
        """Whether keys are spread over several servers."""
        return self.kind == "cluster"


def is_address(target: object) -> bool:
    """Tell whether a string is the URL of a server, and not a path."""
    if not isinstance(target, str):
        return False
    scheme, separator, _ = target.partition("://")
    return bool(separator) and SCHEME.fullmatch(scheme) is not None


def without_password(url: str) -> str:
    """Return a URL that may be shown.

    Example:
        >>> without_password('redis://me:secret@host/0?namespace=app')
        'redis://me:***@host/0?namespace=app'
    """
    return _PASSWORD.sub(r"\1***@", _PASSWORD_FIELD.sub(r"\1***", url))


_PASSWORD_FIELD: Final = re.compile(r"(password=)[^&]*", re.IGNORECASE)
_PASSWORD: Final = re.compile(
    r"""(://[^:/@?#\[]*:)
    (?: [^/?#]*                             # as it should be, with what is special written as %40
      | (?! \d+ (?: [/?#,] | $ ) ) .*       # with what is special as it is
      | [^=]*                               # the same, where it begins like the number of a port
    )@""",
    re.VERBOSE | re.DOTALL,
)


def parse(url: str, namespace: str | None = None, shards: int | None = None) -> Address:
    """Return what a URL says.

    Raises:
        SettingError: It is no URL of a server, or lacks a namespace.
    """
    if not is_address(url):
        raise SettingError(
            f"{without_password(url)!r} is not the address of a server: redis://, rediss://,"
            " valkey://, redis+cluster:// and redis+sentinel:// are"
        )
    parts = _split(url)
    query = dict(parse_qsl(parts.query))
    given = query.pop("namespace", None)
    name = checked_namespace(namespace if namespace is not None else given, url)
    count = checked_shards(query.pop("shards", None) if shards is None else shards)
    kind = parts.scheme.partition("+")[2] or "server"
    if parts.scheme == "unix":
        if parts.netloc and not parts.netloc.endswith("@"):
            raise SettingError(
                f"{without_password(url)!r} names no socket: write unix:///path/to/socket, and what"
                " is special in a password as %40, %2F and so on"
            )
        plain = _socket(parts.netloc + parts.path, query, url)
        return Address(url, kind, (), {"url": plain}, name, count)
    options = _credentials(parts.netloc)
    is_tls = parts.scheme.partition("+")[0].endswith("ss") or parts.scheme.startswith("valkeys")
    if is_tls:
        options["ssl"] = True
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not path:
            raise SettingError(
                f"{without_password(url)!r} names no master: write"
                " redis+sentinel://host:port/NAME?namespace=app"
            )
        service = path.pop(0)
    options |= _database(path, query, kind, url)
    default = SENTINEL_PORT if kind == "sentinel" else PORT
    hosts = _hosts(parts.netloc.rpartition("@")[2], default, url)
    options |= _typed(query, url, is_tls=is_tls, has_sentinels=kind == "sentinel")
    return Address(url, kind, hosts, options, name, count, service)


def _split(url: str) -> SplitResult:
    try:
        url.encode()
        return urlsplit(url)
    except ValueError as exc:
        raise SettingError(f"{without_password(url)!r} is no URL: {exc}") from exc


def checked_namespace(name: str | None, url: str) -> str:
    """Return a namespace that can be used.

    Raises:
        SettingError: There is none, or it holds characters that it must not.
    """
    if not name:
        raise SettingError(
            f"{without_password(url)!r} names no namespace: add ?namespace=NAME; all keys of the"
            " cache start with it, and nothing else is touched"
        )
    if not NAMESPACE.fullmatch(name):
        raise SettingError(
            f"namespace must be 1 to 200 characters, without spaces and {{}}*?[]\\: got {name!r}"
        )
    return name


def checked_shards(given: Any) -> int | None:
    """Return a number of shards; None for what is there.

    Raises:
        SettingError: It is none.
    """
    if given is None:
        return None
    try:
        count = int(given)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST_SHARDS:
        raise SettingError(f"shards must be a number from 1 to {MOST_SHARDS}: got {given!r}")
    return count


def _credentials(netloc: str) -> dict[str, Any]:
    user, separator, password = netloc.rpartition("@")[0].partition(":")
    found = {"username": unquote(user)} if user else {}
    return {**found, "password": unquote(password)} if separator and password else found


def _database(path: list[str], query: dict[str, str], kind: str, url: str) -> dict[str, Any]:
    given = query.pop("db", path.pop(0) if path else "0")
    if not given.isdigit() or path:
        raise SettingError(f"{without_password(url)!r} names no database: /0 to /15 usually are")
    if kind == "cluster":
        if given != "0":
            raise SettingError("a cluster has one database: leave it out of the URL")
        return {}
    return {"db": int(given)}


def _socket(path: str, query: dict[str, Any], url: str) -> str:
    """Return the URL of a socket as redis-py takes it: with nothing that changes how it speaks."""
    where = ("db", "username", "password")
    known: dict[str, Any] = {name: query.pop(name) for name in where if name in query}
    _database([], {"db": known.get("db", "0")}, "server", url)
    return f"unix://{path}?{urlencode({**known, **_typed(query, url, is_tls=False)})}"


def _hosts(netloc: str, default: int, url: str) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for each in netloc.split(","):
        match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]*)(?::(\d{1,9}))?", each)
        host = unquote(match[1].strip("[]")) or "localhost" if match else ""
        port = int(match[2]) if match and match[2] else default
        if not (_is_name(host) and 0 < port < 2**16):
            # What stands there may be a part of a password that holds a slash.
            shown = "" if "@" in url else f": {each!r}"
            raise SettingError(f"{without_password(url)!r} names no host and port{shown}")
        found.append((host, port))
    return tuple(found)


def _is_name(host: str) -> bool:
    """Tell whether something may be the name of a host; sockets raise what is no OSError else."""
    with suppress(UnicodeError):
        return bool(host.encode("idna")) and "\0" not in host
    return False


_TYPES: Final[dict[str, Any]] = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": str,
    "ssl_check_hostname": lambda text: text.lower() in ("1", "true", "yes"),
    "client_name": str,
    "health_check_interval": int,
    "sentinel_username": str,
    "sentinel_password": str,
}


def _typed(
    query: dict[str, str], url: str, *, is_tls: bool, has_sentinels: bool = False
) -> dict[str, Any]:
    others: tuple[str, ...] = () if is_tls else ("ssl_",)
    others += () if has_sentinels else ("sentinel_",)
    known = [name for name in _TYPES if not name.startswith(others)]
    unknown = sorted(set(query).difference(known))
    if unknown:
        raise SettingError(
            f"{without_password(url)!r} has unknown parts in its query: {', '.join(unknown)};"
            f" namespace, shards, db, {', '.join(known)} are known"
            + ("" if is_tls else ", and what begins with ssl_ where the address is of rediss://")
        )
    try:
        return {name: _TYPES[name](value) for name, value in query.items()}
    except ValueError as exc:
        raise SettingError(
            f"{without_password(url)!r} has a part in its query that is no whole number: {exc}"
        ) from exc
