"""Where secrets are found when none is passed: variables, and a key file per user.

The file is text: secrets in hexadecimal or base64, separated by commas or white space.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
import sys
from collections.abc import Mapping
from typing import Final, NoReturn

from diskcache.codecs.signing import MIN_SECRET, REMEDY, NoSigningKeyError
from diskcache.errors import PickleKeyError

_VARIABLES: Final = ("DISKCACHE_SECRET", "DISKCACHE_KEY")
_FILE_VARIABLES: Final = ("DISKCACHE_SECRET_FILE", "DISKCACHE_KEY_FILE")

_MINTED_BYTES: Final = 32
_MAX_FILE: Final = 64 * 1024
"""Bytes of a key file: hundreds of secrets."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_BUT_GROUP_READ: Final = _OTHERS & ~stat.S_IRGRP
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def names_secret(environ: Mapping[str, str]) -> bool:
    """Tell whether a variable names a secret, or a file with one."""
    return any(environ.get(name) for name in (*_VARIABLES, *_FILE_VARIABLES))


def find_secrets(
    environ: Mapping[str, str] | None,
    directory: str | os.PathLike[str] | None,
    *,
    mint: bool,
) -> list[bytes]:
    """Return the secrets, newest first; with *mint* there is at least one.

    Raises:
        PickleKeyError: A secret is malformed, a key file is not safe to use, or *mint* was asked
            and no place for a key file can be written.
    """
    if environ is None:
        environ = os.environ
    for name in _VARIABLES:
        if environ.get(name):
            return parse_secrets(environ[name], name)
    for name in _FILE_VARIABLES:
        path = environ.get(name)
        if path:
            _refuse_inside(path, directory)
            secrets = _read(path, allowed_group=True)
            if secrets is None:
                raise PickleKeyError(f"{name} names {path!r}, which does not exist")
            return secrets
    return _from_state_directory(environ, directory, mint=mint)


def parse_secrets(text: str, origin: str) -> list[bytes]:
    """Return the secrets in *text*, without ever repeating it in a message.

    Example:
        >>> parse_secrets('00' * 32, 'DISKCACHE_SECRET') == [bytes(32)]
        True
    """
    secrets = [_decode(word, origin) for word in text.replace(",", " ").split()]
    if not secrets:
        raise PickleKeyError(f"{origin} holds no secret. {REMEDY}")
    return secrets


def _decode(word: str, origin: str) -> bytes:
    try:
        secret = bytes.fromhex(word)
    except ValueError:
        try:
            padded = word.rstrip("=").translate(str.maketrans("-_", "+/"))
            secret = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise PickleKeyError(f"{origin} is neither hexadecimal nor base64. {REMEDY}") from None
    if len(secret) < MIN_SECRET:
        raise PickleKeyError(
            f"{origin} must have at least {MIN_SECRET} bytes after decoding: got {len(secret)}. "
            f"{REMEDY}"
        )
    return secret


def _from_state_directory(
    environ: Mapping[str, str], directory: str | os.PathLike[str] | None, *, mint: bool
) -> list[bytes]:
    place = state_directory(environ)
    if place is None:
        if mint:
            raise NoSigningKeyError("HOME is not set")
        return []
    path = os.path.join(place, "key")
    _refuse_inside(path, directory)
    secrets = _read(path, allowed_group=False)
    if secrets is not None:
        _check_folder(place)
    elif mint:
        _mint(place, path, environ)
        secrets = _read(path, allowed_group=False)
        if secrets is None:
            raise NoSigningKeyError(f"{path!r} vanished")
    return secrets or []


def state_directory(environ: Mapping[str, str]) -> str | None:
    """Return the directory of the key file, or None if this user has no place for state."""
    base: str | None = environ.get("XDG_STATE_HOME") or ""
    if base and os.path.isabs(base):
        return os.path.join(base, "diskcache")
    if sys.platform == "win32":
        base = environ.get("LOCALAPPDATA")
        return os.path.join(base, "diskcache") if base else None
    home = environ.get("HOME") or _home_of_user()
    if not home or not os.path.isabs(home):
        return None
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Application Support", "diskcache")
    return os.path.join(home, ".local", "state", "diskcache")


def _home_of_user() -> str | None:
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_dir
    except (ImportError, KeyError):
        return None


def _refuse_inside(path: str, directory: str | os.PathLike[str] | None) -> None:
    """A key beside the data that it protects protects nothing."""
    if directory is None:
        return
    root = os.path.realpath(os.fspath(directory))
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    if folder == root or folder.startswith(root.rstrip(os.sep) + os.sep):
        raise PickleKeyError(
            f"refusing key file {path!r}: it lies inside the cache directory {root!r}, where "
            f"whoever can write entries can write keys. {REMEDY}"
        )


# -- Reading -----------------------------------------------------------------------------------


def _read(path: str, *, allowed_group: bool) -> list[bytes] | None:
    """Return the secrets in a key file that only its owner can have written, or None."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    # A FIFO in place of the file must not hang the process.
    flags |= getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        if os.path.islink(path):
            raise PickleKeyError(f"refusing key file {path!r}: it is a symbolic link") from exc
        raise PickleKeyError(f"cannot read key file {path!r}: {exc.strerror}") from exc
    try:
        _check(os.fstat(handle), path, allowed_group=allowed_group)
        data = os.read(handle, _MAX_FILE + 1)
    finally:
        os.close(handle)
    if len(data) > _MAX_FILE:
        raise PickleKeyError(f"refusing key file {path!r}: it is larger than {_MAX_FILE} bytes")
    return parse_secrets(data.decode("ascii", "replace"), f"key file {path!r}")


def _check(info: os.stat_result, path: str, *, allowed_group: bool) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise PickleKeyError(f"refusing key file {path!r}: it is not a regular file")
    if not hasattr(os, "geteuid"):
        return
    if info.st_uid != os.geteuid() and not (allowed_group and info.st_uid == 0):
        raise PickleKeyError(
            f"refusing key file {path!r}: it belongs to user {info.st_uid}, not to user "
            f"{os.geteuid()} who runs this process. {REMEDY}"
        )
    mode = stat.S_IMODE(info.st_mode)
    if mode & (_OTHERS_BUT_GROUP_READ if allowed_group else _OTHERS):
        allowed = "640" if allowed_group else "600"
        readers = stat.S_IROTH if allowed_group else stat.S_IRGRP | stat.S_IROTH
        what = "read" if mode & readers else "use"
        raise PickleKeyError(
            f"refusing key file {path!r}: mode {mode:04o} lets others {what} it. "
            f"Run: chmod {allowed} {path} and consider the key known."
        )


# -- Making ------------------------------------------------------------------------------------


def _mint(place: str, path: str, environ: Mapping[str, str]) -> None:
    """Make the key file, or leave the one that another process made meanwhile.

    The name appears by `link`, complete: of any number of racing processes one succeeds, and
    none ever reads half a key.
    """
    import secrets

    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        _check_folder(place)
        temporary = os.path.join(place, f"key.{secrets.token_hex(8)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        handle = os.open(temporary, flags, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_hex(_MINTED_BYTES).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    except OSError as exc:
        _explain(place, environ, exc)


def _check_folder(place: str) -> None:
    if not hasattr(os, "geteuid"):
        return
    info = os.stat(place)
    if info.st_uid != os.geteuid() or info.st_mode & _OTHERS_WRITE:
        raise PickleKeyError(
            f"refusing key directory {place!r}: others can write to it "
            f"(user {info.st_uid}, mode {stat.S_IMODE(info.st_mode):04o}). Run: chmod 700 {place}"
        )


def _explain(place: str, environ: Mapping[str, str], exc: OSError) -> NoReturn:
    base = "XDG_STATE_HOME" if environ.get("XDG_STATE_HOME") else "HOME"
    if sys.platform == "win32":
        base = "LOCALAPPDATA"
    if isinstance(exc, PermissionError) or exc.errno in _UNWRITABLE:
        raise NoSigningKeyError(f"{base} is not writable") from exc
    raise NoSigningKeyError(f"cannot make {place!r}: {exc.strerror}") from exc


def _unwritable() -> frozenset[int]:
    import errno

    return frozenset((errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST))


_UNWRITABLE: Final = _unwritable()
