"""Entries move between a directory and a server, both ways, by the command line and by archives."""

from __future__ import annotations

import io
import json

import pytest

from diskcache import Cache, connect
from diskcache.cli.main import main
from tests.support.servers import shared_server

CONTENTS = {
    "text": "a", "long text": "ä" * 50_000, "bytes": b"\0" * 100_000, ("tuple", 1): [1, {}],
    5: 2**63 - 1, 6.5: -1.5, "list": list(range(20_000)),
}  # fmt: skip


def fill(cache):
    for number, (key, value) in enumerate(CONTENTS.items()):
        cache.set(key, value, tag=f"t{number % 2}", expire=3600 if number % 3 == 0 else None)
    cache.set("file", io.BytesIO(b"content" * 20_000), read=True)
    for job in "abc":
        cache.push(job, prefix="jobs")
    cache.set("gone", 1, expire=-1)


def told(cache):
    return {
        key: cache.get(key, expire_time=True, tag=True)
        for key in cache
        if cache.get(key) is not None
    }


@pytest.fixture
def url(variant, request, tmp_path):
    del variant
    return shared_server().url(f"copies-{tmp_path.name}")


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_copy_to_a_server_and_back_keeps_everything(capsys, tmp_path, url):
    with Cache(tmp_path / "from") as cache:
        fill(cache)
        before = told(cache)
    code, out, err = run(capsys, "copy", tmp_path / "from", url, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["entries"] == len(before)

    with connect(url) as there:
        assert told(there) == before
        assert list(there) == list(before)
        assert there.pull(prefix="jobs")[1] == "a"
        assert there.evict("t1") == 3
        there.push("a", prefix="jobs", side="front")
    assert run(capsys, "copy", tmp_path / "from", url)[:2] == (0, f"copied {len(before)} entries\n")
    assert run(capsys, "copy", url, tmp_path / "to")[0] == 0

    with Cache(tmp_path / "to") as back:
        assert told(back) == before
        assert back.check() == []
        with back.read("bytes") as reader:
            assert reader.name.startswith(back.directory)


def test_copy_of_what_is_not_there_says_so(capsys, tmp_path, url):
    code, out, err = run(capsys, "copy", tmp_path / "missing", url)

    assert (code, out) == (3, "")
    assert "no such directory" in err


def test_copy_from_a_server_that_is_away_says_so(capsys, tmp_path):
    code, _, err = run(capsys, "copy", "redis://127.0.0.1:1/0?namespace=a", tmp_path / "to")

    assert code == 5
    assert "cannot be reached" in err


def test_import_goes_on_where_it_was_interrupted(tmp_path, url):
    with Cache(tmp_path / "from") as cache:
        fill(cache)
        archive = io.BytesIO()
        cache.export(archive)
    with connect(url) as there:
        with pytest.raises(ValueError, match="archive"):
            there.import_from(io.BytesIO(archive.getvalue()[:-200]))
        report = there.import_from(io.BytesIO(archive.getvalue()))

        assert report.earlier > 0
        assert report.earlier + report.entries >= len(CONTENTS)
        assert there["bytes"] == CONTENTS["bytes"]
        assert there.clear() == len(CONTENTS) + 4


def test_commands_take_the_address_of_a_server(capsys, url):
    assert run(capsys, "set", url, "key", "value", "--tag", "t") == (
        0,
        "stored 'key'\n",
        "",
    )
    assert run(capsys, "get", url, "key")[:2] == (0, "value\n")
    assert "key" in run(capsys, "ls", url)[1]
    assert json.loads(run(capsys, "info", url, "--json")[1])["entries"] == 1
    assert run(capsys, "check", url)[0] == 0
    assert json.loads(run(capsys, "evict", url, "t", "--json")[1]) == {"removed": 1}
    assert run(capsys, "get", url, "key")[0] == 1
    assert json.loads(run(capsys, "clear", url, "--yes", "--json")[1]) == {"removed": 0}
