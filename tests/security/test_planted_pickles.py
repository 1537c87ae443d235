"""A pickle that an attacker planted is never loaded, wherever it lies and whoever reads it."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path

import pytest

import diskcache
from diskcache import Cache, Deque, FanoutCache, Index, JSONDisk, UntrustedPickleError
from diskcache.archive import ENTRIES, HEADER, SOURCE, TRAILER, ArchiveWriter
from diskcache.sentinels import ENOVAL
from tests.security import hostile, paths

pytestmark = pytest.mark.usefixtures("quiet")

FORMS = {
    **dict.fromkeys(hostile.payloads(Path("marker")), (4, False)),
    **{f"mode {mode}": (mode, False) for mode in (*range(-1, 12), 15)},
    **{f"file of mode {mode}": (mode, True) for mode in (*range(1, 11), 20)},
    **{f"packed mode {mode}": (mode, False) for mode in (17, 20, 21, 23, 25, 36, 37, 52)},
    "guard": (4 | 64, False),
    "guard of plain data": (5 | 64, False),
    "huge mode": (2**62, False),
    "mode 22": (6 | 16, False),
}
"""By name: the mode of the row, and whether its value is in a file."""

USUAL = ["protocol 5", "with a signature of ones", "file of mode 4", "guard"]


@pytest.fixture
def plant(tmp_path, marker):
    """Return a function that plants a payload in the form of a name in a directory."""

    def planted(directory, form):
        mode, in_file = FORMS[form]
        data = hostile.payloads(marker).get(form) or hostile.payloads(marker)["protocol 5"]
        for number, (key, raw) in enumerate(paths.PLACES.values()):
            row = {"key": key, "raw": raw, "mode": mode, "tag": paths.TAG}
            if not in_file:
                hostile.insert(directory, **row, value=data)
                continue
            name = f"ab/cd/{number:028x}.val"
            path = Path(directory) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            hostile.file_row(directory, name, **row)

    return planted


def new(directory, kind=Cache, **keywords):
    kind(directory, secret=hostile.SECRET, **keywords).close()
    return directory


def run(cases, thing):
    """Run all cases on one object; what they raise is another test's business."""
    for case in cases.values():
        hostile.attempt(lambda case=case: case(thing))


@pytest.mark.parametrize("kind", paths.CACHES, ids=lambda kind: kind.__name__)
def test_every_public_method_has_an_attack(kind):
    assert paths.methods(kind) - paths.CACHES[kind] - paths.NO_CASE == set()
    assert paths.CACHES[kind] - paths.methods(kind) == set()


def test_every_command_and_recipe_has_an_attack():
    recipes = set(diskcache.recipes.__all__)

    assert paths.commands() - paths.covered(paths.CLI) - paths.NO_CASE == set()
    assert recipes - paths.covered(paths.RECIPES) == set()


def test_payload_that_is_loaded_leaves_its_mark(marker):
    """The other tests can fail."""
    for name, data in hostile.payloads(marker).items():
        if name.startswith("protocol"):
            pickle.loads(data)
            assert marker.exists()
            marker.unlink()


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *((form, {}) for form in FORMS),
        *((form, {"strict": True}) for form in USUAL),
        *((form, {"disk": JSONDisk}) for form in USUAL),
        ("mode 22", {"disk": JSONDisk}),
    ],
    ids=str,
)
def test_value_is_not_loaded_by_any_way_of_reading(tmp_path, marker, plant, form, options):
    directory = new(tmp_path / "cache", **options)
    plant(directory, form)
    with Cache(directory, secret=hostile.SECRET, **options) as cache:
        run(paths.READING, cache)

    assert not marker.exists()


@pytest.mark.parametrize("form", USUAL)
@pytest.mark.parametrize("case", paths.CHANGING)
def test_value_is_not_loaded_by_any_way_of_changing(tmp_path, marker, plant, form, case):
    directory = new(tmp_path / "cache")
    plant(directory, form)
    with Cache(directory, secret=hostile.SECRET) as cache:
        hostile.attempt(lambda: paths.CHANGING[case](cache))

    assert not marker.exists()


@pytest.mark.parametrize("form", USUAL)
def test_value_is_not_loaded_by_a_fanout_cache(tmp_path, marker, plant, form):
    directory = new(tmp_path / "cache", FanoutCache, shards=2)
    for shard in ("000", "001"):
        plant(directory / shard, form)
    cases = {**paths.READING, **paths.SHARDED, **paths.CHANGING}
    cache = FanoutCache(directory, secret=hostile.SECRET)
    run(cases, cache)
    cache.close()

    assert not marker.exists()


@pytest.mark.parametrize("form", USUAL)
@pytest.mark.parametrize("kind", [Deque, Index], ids=lambda kind: kind.__name__)
def test_value_is_not_loaded_by_a_structure(tmp_path, marker, plant, form, kind):
    directory = new(tmp_path / "cache", eviction_policy="none")
    plant(directory, form)
    for case in (paths.DEQUE if kind is Deque else paths.INDEX).values():
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        with Cache(copy, secret=hostile.SECRET, eviction_policy="none") as cache:
            hostile.attempt(lambda case=case, cache=cache: case(kind.fromcache(cache)))
        shutil.rmtree(copy)

    assert not marker.exists()


@pytest.mark.parametrize("form", USUAL)
def test_value_is_not_loaded_by_a_recipe(tmp_path, marker, plant, form):
    directory = new(tmp_path / "cache")
    for case in paths.RECIPES.values():
        plant(directory, form)
        with Cache(directory, secret=hostile.SECRET) as cache:
            hostile.attempt(lambda case=case, cache=cache: case(cache))

    assert not marker.exists()


@pytest.mark.parametrize("form", USUAL)
def test_value_is_not_loaded_by_the_command_line(tmp_path, marker, plant, form, monkeypatch):
    monkeypatch.setenv("DISKCACHE_SECRET", hostile.SECRET.hex())
    directory = new(tmp_path / "cache")
    plant(directory, form)
    run(paths.CLI, directory)

    assert not marker.exists()


@pytest.mark.parametrize(
    ("payload", "raw"),
    [
        *((payload, 0) for payload in hostile.payloads(Path("marker"))),
        *(("of a key", raw) for raw in (1, 7, None, "1", b"1")),
    ],
    ids=repr,
)
def test_key_is_not_loaded(tmp_path, marker, payload, raw, monkeypatch):
    monkeypatch.setenv("DISKCACHE_SECRET", hostile.SECRET.hex())
    directory = new(tmp_path / "cache")
    key = hostile.payloads(marker)[payload]
    hostile.insert(directory, key=key, raw=raw, value="v", tag=paths.TAG)
    run(paths.CLI, directory)
    hostile.insert(directory, key=key, raw=raw, value="v", tag=paths.TAG)
    with Cache(directory, secret=hostile.SECRET) as cache:
        run(paths.READING, cache)
        run(paths.INDEX, Index.fromcache(cache))
        run(paths.CHANGING, cache)

    assert not marker.exists()


def test_tag_setting_and_state_are_not_loaded(tmp_path, marker):
    directory = new(tmp_path / "cache")
    for number, data in enumerate(hostile.payloads(marker).values()):
        hostile.insert(directory, key=f"tagged {number}", value=1, tag=data)
        with hostile.database(directory) as database:
            for name in (*diskcache.DEFAULT_SETTINGS, "disk", "shards", "rank_policy", "hits"):
                for kind in ("setting", "state", "statistics"):
                    database.execute(
                        "INSERT OR REPLACE INTO Settings (key, value, kind) VALUES (?, ?, ?)",
                        (f"{name}" if number else f"{name}{kind}", data, kind),
                    )
        with hostile.database(directory) as database:
            database.execute("DELETE FROM Settings WHERE key = 'disk'")
        with Cache(directory, secret=hostile.SECRET) as cache:
            run({**paths.READING, **paths.CHANGING}, cache)

    assert not marker.exists()


@pytest.mark.parametrize("kind", [Cache, FanoutCache, Index], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "form", ["protocol 2", "with a signature of ones", "of a key", "compressed"]
)
def test_pickle_in_an_archive_is_not_loaded(tmp_path, marker, kind, form):
    data = hostile.payloads(marker)[form]
    for number, mode in enumerate((4, 4 | 16, 4 | 32, 5, 7)):
        stream = archive_of(
            [(paths.KEY, 1, mode, data, None, paths.TAG), (data, 0, 1, "v", None, None)]
        )
        cache = (Cache if kind is Index else kind)(
            tmp_path / f"cache {number}", secret=hostile.SECRET
        )
        thing = Index.fromcache(cache) if kind is Index else cache
        hostile.attempt(lambda thing=thing, stream=stream: thing.import_from(stream))
        for read in (list, lambda it: it.get(paths.KEY), lambda it: list(it.items())):
            hostile.attempt(lambda read=read, cache=cache: read(cache))
        cache.close()

    assert not marker.exists()


def archive_of(rows):
    """Return an archive as an attacker writes it: all digests are right."""
    stream = io.BytesIO()
    writer = ArchiveWriter(stream.write)
    header = {"id": bytes(16), "shards": 0, "settings": {}, "writer": ""}
    writer.put(HEADER, {**header, "created": 1.0, "version": "6"})
    writer.put(SOURCE, {"cache_id": bytes(16)})
    writer.put(ENTRIES, rows)
    writer.put(TRAILER, {"entries": len(rows)})
    stream.seek(0)
    return stream


@pytest.mark.parametrize("take", [Cache.pull, Cache.peek, Cache.peekitem])
def test_entry_at_an_end_raises_and_stays(tmp_path, marker, plant, take):
    directory = new(tmp_path / "cache")
    plant(directory, "protocol 5")
    with Cache(directory, secret=hostile.SECRET) as cache:
        for _ in range(2):
            with pytest.raises(UntrustedPickleError):
                take(cache)

        assert len(cache) == len(paths.PLACES)
        assert cache.pop(paths.KEY, "gone") == "gone"
        assert paths.KEY in cache


@pytest.mark.parametrize("take", ["popleft", "pop", "peek", "peekleft"])
def test_item_of_a_deque_raises_and_stays(tmp_path, plant, take):
    directory = new(tmp_path / "cache", eviction_policy="none")
    plant(directory, "protocol 5")
    with Cache(directory, secret=hostile.SECRET, eviction_policy="none") as cache:
        deque = Deque.fromcache(cache)
        for _ in range(2):
            with pytest.raises(UntrustedPickleError):
                getattr(deque, take)()

        assert len(deque) == len(paths.PLACES)


def test_cache_that_trusts_everything_would_load_them(tmp_path, marker, plant):
    """What is planted really is what a reader without protection loads."""
    directory = new(tmp_path / "cache")
    plant(directory, "protocol 5")
    with Cache(directory, pickle="unsafe") as cache:
        assert cache.get(paths.KEY, ENOVAL) == "executed"

    assert marker.exists()
