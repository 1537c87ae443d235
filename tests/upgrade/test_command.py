"""`diskcache migrate`."""

from __future__ import annotations

import datetime
import json

import pytest

from diskcache import Cache, FanoutCache, JSONDisk
from diskcache.cli.main import main
from diskcache.engines.sqlite import upgrade

DAY = datetime.date(2020, 1, 1)


def migrated(capsys, *arguments, code=0):
    assert main(["migrate", "--json", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_dry_run_reports_by_type_and_changes_nothing(fill, old, directory, capsys):
    fill({"a": 1, "list": [1], "day": DAY, (1, 2): 3, DAY: 1, "large": [DAY] * 20_000})
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    data, _ = migrated(capsys, directory, "--dry-run", code=1)

    assert data["dry_run"] is True
    (one,) = data["caches"]
    assert one["entries"] == 6
    assert one["converted"] == {"list": 1, "tuple": 1}
    assert one["kept"] == {"datetime.date": 3}
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert old.run(
        "cache = diskcache.Cache(directory); result = cache['day']; cache.close()",
        directory=str(directory),
    ) == DAY  # fmt: skip


def test_migrate_upgrades_and_keeps_what_it_may_not_load(fill, directory, capsys):
    fill({"a": 1, "list": [1], "day": DAY})

    data, notes = migrated(capsys, directory, code=1)

    assert data["caches"][0]["kept"] == {"datetime.date": 1}
    assert "was upgraded from version 5: 3 entries" in notes
    dry, _ = migrated(capsys, directory, "--dry-run", code=1)
    assert dry["caches"][0]["kept"] == {"datetime.date": 1}
    with Cache(directory) as cache:
        assert (cache["a"], cache["list"]) == (1, [1])


def test_migrate_with_trust_loads_everything(fill, directory, capsys):
    fill({"day": DAY, DAY: 1, "large": list(range(20_000))})

    data, _ = migrated(capsys, directory, "--trust-pickles")

    assert data["caches"][0]["converted"] == {"datetime.date": 2, "list": 1}
    assert migrated(capsys, directory)[0]["caches"][0]["converted"] == {}
    with Cache(directory) as cache:
        assert (cache["day"], cache[DAY], cache["large"]) == (DAY, 1, list(range(20_000)))


def test_migrate_finds_every_cache_below(start_old, tmp_path, capsys):
    root = tmp_path / "root"
    process = start_old()
    process.run(
        "cache = diskcache.FanoutCache(root, shards=3)\n"
        "for n in range(30): cache[(n, 'k')] = datetime.date(2020, 1, 1)\n"
        "cache.deque('jobs').append(datetime.date(2020, 1, 1))\n"
        "other = diskcache.Cache(root + '/more/other'); other['a'] = (1,)\n",
        root=str(root),
    )
    process.stop()

    data, _ = migrated(capsys, root, "--trust-pickles")

    assert [(one["shards"], one["entries"]) for one in data["caches"]] == [(3, 30), (0, 1), (0, 1)]
    with FanoutCache(root) as cache:
        assert {cache[n, "k"] for n in range(30)} == {DAY}
        assert list(cache.deque("jobs")) == [DAY]


def test_migrate_names_the_disk(old, directory, capsys):
    old.run(
        "cache = diskcache.Cache(directory, disk=diskcache.JSONDisk); cache['a'] = [1]\n"
        "cache.close()",
        directory=str(directory),
    )
    assert main(["migrate", str(directory)]) == 5
    assert "pass disk=JSONDisk" in capsys.readouterr().err
    for name, code in (("nothing", 2), ("json:loads", 2), ("no.such:Disk", 2)):
        assert main(["migrate", str(directory), "--disk", name]) == code

    migrated(capsys, directory, "--disk", "diskcache:JSONDisk")

    with Cache(directory, disk=JSONDisk) as cache:
        assert cache["a"] == [1]


def test_text_is_a_table(fill, directory, capsys):
    fill({"day": DAY, "list": list(range(20_000))})
    assert main(["migrate", str(directory)]) == 1
    out = capsys.readouterr().out
    assert f"{directory}: 2 entries" in out
    assert "kept, not trusted" in out
    assert "--trust-pickles" in out


def test_busy_directory_is_told(start_old, directory, capsys, monkeypatch):
    monkeypatch.setattr(upgrade, "PATIENCE", 0.05)
    start_old().run("cache = diskcache.Cache(directory)", directory=str(directory))
    assert main(["migrate", str(directory)]) == 4
    assert "stop the processes" in capsys.readouterr().err


def test_no_cache_is_told(tmp_path, capsys):
    assert main(["migrate", str(tmp_path)]) == 3
    assert "not a cache" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "ls"])
def test_looking_does_not_upgrade(fill, directory, capsys, command):
    fill({"a": 1})
    assert main([command, str(directory)]) == 3
    assert "migrate" in capsys.readouterr().err
    assert not (directory / "gate.lock").exists()
