"""Running a function as another user."""

from __future__ import annotations

import codecs
import os
import pickle
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ALICE, BOB, EVE = 60_001, 60_002, 60_003
TEAM = 60_100
"""The group of Alice and Bob."""

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="only root can become another user: run the tests as root to include this one",
)


def as_user(uid: int, function: Callable[[], Any], gid: int | None = None) -> Any:
    """Return what *function* returns when it is run as another user, in a child.

    Raises:
        AssertionError: It raised something.
    """
    # Another user may not be able to read where Python keeps it.
    codecs.lookup("ascii")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reader)
            os.setgroups([])
            os.setgid(uid if gid is None else gid)
            os.setuid(uid)
            answer = (True, function())
        except BaseException:  # noqa: BLE001 - it is raised in the parent
            answer = (False, traceback.format_exc())
        finally:
            with os.fdopen(writer, "wb") as file:
                pickle.dump(answer, file)
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        is_done, result = pickle.load(file)
    os.waitpid(child, 0)
    assert is_done, result
    return result


@pytest.fixture
def shared_place() -> Iterator[Path]:
    """A folder that every user can get at; `tmp_path` is for one."""
    place = Path(tempfile.mkdtemp(prefix="diskcache-test-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)
