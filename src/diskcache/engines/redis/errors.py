"""Errors of the server and the way to it, as errors of this library, with remedies."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import exceptions as theirs

from diskcache.errors import (
    CacheFullError,
    ServerAccessError,
    ServerError,
    ServerKeyError,
    ServerReadOnlyError,
    ServerTimeoutError,
    ServerUnavailableError,
)

_ACCESS = (
    theirs.AuthenticationError,
    theirs.AuthorizationError,
    theirs.NoPermissionError,
)
_AWAY = (
    theirs.ConnectionError,
    theirs.ClusterDownError,
    theirs.TryAgainError,
    theirs.ClusterError,
    theirs.RedisClusterException,
)

_REFUSALS = ("NOAUTH", "WRONGPASS", "NOPERM", "user executing the script can't")
_BROKEN = (theirs.ConnectionError, theirs.TimeoutError)


def translated(exc: Exception, where: str) -> Exception:
    """Return the error of this library for one of redis-py.

    Args:
        exc: The error.
        where: Address of the server, without a password.
    """
    text = str(exc) or type(exc).__name__
    if isinstance(exc, _ACCESS) or any(word in text for word in _REFUSALS):
        return ServerAccessError(
            f"server {where} refused access: {text}; check user and password in the URL, and the"
            " ACL of that user"
        )
    if isinstance(exc, theirs.TimeoutError):
        return ServerTimeoutError(
            f"server {where} did not answer in time: {text}; raise timeout=, or pass"
            " on_error='miss' to go on without it",
            is_sent=True,
        )
    if isinstance(exc, theirs.ReadOnlyError):
        return ServerReadOnlyError(
            f"server {where} is a replica and may not be written: connect to its master, or by"
            " redis+sentinel:// or redis+cluster://, which find it"
        )
    if isinstance(exc, theirs.OutOfMemoryError) or text.startswith("OOM"):
        return CacheFullError(
            f"server {where} has no memory left: raise its maxmemory, or choose a"
            " maxmemory-policy that evicts entries, such as volatile-lru or allkeys-lru"
        )
    if isinstance(exc, theirs.BusyLoadingError):
        return ServerUnavailableError(f"server {where} is loading its data: {text}")
    if isinstance(exc, (*_AWAY, OSError)):
        return _away(exc, text, where)
    return _of_response(text, where)


def _away(exc: Exception, text: str, where: str) -> ServerUnavailableError:
    # The client of a cluster looks for other nodes after a connection broke, and may find none.
    is_sent = isinstance(exc, theirs.ConnectionError) or isinstance(exc.__context__, _BROKEN)
    cause = exc.__cause__ or exc.__context__
    if isinstance(cause, ssl.SSLError) and str(cause) not in text:
        # Not every version of redis-py says what it was.
        text = f"{text} {cause}"
    if "SSL" in text or "certificate" in text:
        return ServerUnavailableError(
            f"server {where} and this client do not agree on TLS: {text}; check that ssl_ca_certs"
            " names the authority that signed its certificate, that the certificate is for that"
            " host, and that the server speaks TLS at that port",
            is_sent=is_sent,
        )
    return ServerUnavailableError(
        f"server {where} cannot be reached: {text}; start it, or pass on_error='miss' to go on"
        " without it",
        is_sent=is_sent,
    )


def is_moving(exc: BaseException | None) -> bool:
    """Tell whether a cluster refused something because a slot is between two masters."""
    if isinstance(exc, theirs.ClusterDownError):
        return False
    return isinstance(exc, (theirs.TryAgainError, theirs.ClusterError))


def _of_response(text: str, where: str) -> Exception:
    if "WRONGTYPE" in text:
        return ServerKeyError(
            f"a key of this namespace on server {where} holds something else: {text}; choose"
            " another namespace, or delete that key"
        )
    if "READONLY" in text:
        return ServerReadOnlyError(f"server {where} may not be written: {text}")
    if text.startswith(("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY", "LOADING")):
        return ServerUnavailableError(f"server {where} does not serve now: {text}")
    if "unknown command" in text:
        return ServerError(
            f"server {where} lacks a command: {text}; Redis 6.2 or newer, or Valkey, is needed"
        )
    return ServerError(f"server {where} reported: {text}")


FOREIGN: Final = (theirs.RedisError, theirs.RedisClusterException, OSError)
"""What `translated` takes: errors of redis-py, and of the network."""


@contextmanager
def translating(where: str) -> Iterator[None]:
    """Turn errors of redis-py, and of the network, into those of this library."""
    try:
        yield
    except FOREIGN as exc:
        raise translated(exc, where) from exc
