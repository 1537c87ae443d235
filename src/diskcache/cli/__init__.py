"""The command line: `python -m diskcache`, also installed as `diskcache`.

`main` parses and dispatches, `commands` return data, `render` prints it; `demo` and `analysis`
are the demonstration, `copies` the commands that copy a whole cache. Everything here is written
against the public names of `diskcache` alone.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What the process returns to the shell; scripts may rely on these numbers."""

    OK = 0
    FINDINGS = 1
    """No such key, `check` found problems, or a copy had to leave entries out."""
    USAGE = 2
    """The command line makes no sense; nothing was done."""
    NOT_A_CACHE = 3
    """The directory is not a cache, or cannot be opened; it was left untouched."""
    BUSY = 4
    """Another process held the write lock longer than `--timeout`."""
    FAILED = 5
    """The cache or the archive is damaged, the cache is full or read-only, an entry may not be
    loaded or stored, or the server cannot be reached."""
    INTERRUPTED = 130
    """Ctrl-C, as shells count it: 128 + SIGINT."""
    BROKEN_PIPE = 141
    """The reader of the output went away, as shells count it: 128 + SIGPIPE."""


class CommandError(Exception):
    """A command cannot go on; the message is one line for a person.

    Attributes:
        code: What the process returns.
    """

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code
