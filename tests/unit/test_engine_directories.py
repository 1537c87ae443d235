"""Directories that cannot be used: the error says why, and nothing is left there."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from diskcache import Cache, DirectoryError, SettingError
from tests.support.crew import run_script

LONG = "/".join(["n" * 200] * 3)

HUNGRY = """
import os, resource
from diskcache import Cache, DirectoryError

directory = sys.argv[1]
with Cache(directory) as cache:
    cache["key"] = b"v" * 50_000

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    pass

numbers = set()
while held:
    try:
        cache = Cache(directory)
        break
    except DirectoryError as exc:
        numbers.add(exc.errno)
        assert "raise its limit" in str(exc)
    os.close(held.pop())

while True:
    try:
        held.append(os.dup(0))
    except OSError:
        break
try:
    cache["file"] = b"v" * 50_000
except DirectoryError as exc:
    numbers.add(exc.errno)
print(len(cache), sorted(numbers))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize(
    ("name", "number"), [(b"caf\xe9", errno.EILSEQ), (LONG.encode(), errno.ENAMETOOLONG)]
)
@pytest.mark.parametrize("readonly", [False, True])
def test_path_that_sqlite_cannot_take_is_refused_before_anything_is_made(
    tmp_path, name, number, readonly
):
    path = os.path.join(os.fsencode(tmp_path), name)
    with pytest.raises(DirectoryError, match="choose") as told:
        Cache(path, readonly=readonly)

    assert told.value.errno == number
    assert os.listdir(tmp_path) == []


def test_path_with_a_null_character_is_refused():
    with pytest.raises(SettingError, match="null character"):
        Cache("a\0b")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_too_many_open_files_are_named(tmp_path):
    done = run_script("import sys" + HUNGRY, tmp_path / "c")

    assert done.stdout == f"1 [{errno.EMFILE}]\n", done.stderr
