"""What mutates a directory comes to an end, whatever was done before, and stays inside."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.security import hostile, mutations
from tests.security.mutations import Column, Cut, Instead, Overwritten, Rowid, Schema, Stored, Word

KINDS = ("nothing", "pipe", "folder", "link", "link to a folder", "device", "sparse")
PLACES = (*mutations.FILES, *mutations.OTHERS, "0")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with entries of every kind."""
    return mutations.make_template(tmp_path_factory.mktemp("mutations") / "template")


# SQLite, which opens a pipe in the place of its journal, waits there and no signal ends it.
@pytest.mark.parametrize("kind", KINDS)
def test_mutations_of_what_was_replaced_end_and_leave_what_is_outside(tmp_path, template, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"not yours")
    before = hostile.snapshot(outside)
    for place in PLACES:
        cache = tmp_path / "cache"
        shutil.copytree(template, cache)
        Instead(place, kind).apply(cache)
        for name in (place, "locks/fence"):
            Instead(name, "nothing" if name != place else kind).apply(cache)
            Overwritten(name, 0.5, b"\xff" * 9).apply(cache)
            Cut(name, 0.5).apply(cache)
        for change in (
            Column(1, "tag", "x"),
            Rowid(1, 0),
            Stored("culled", 1, "state"),
            Word(5, 7),
            *(Schema(statement) for statement in mutations.SCHEMA),
        ):
            change.apply(cache)
        shutil.rmtree(cache)

        assert hostile.snapshot(outside) == before, place
