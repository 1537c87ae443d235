"""Archives: written and read block by block, and refused at the block that is wrong."""

from __future__ import annotations

import io
import os

import pytest

from diskcache import (
    Archive,
    ArchiveError,
    Cache,
    Deque,
    FanoutCache,
    Index,
    JSONDisk,
    SettingError,
    TooLargeError,
    TransactionError,
    UnsafePickleWarning,
    UntrustedPickleError,
)
from diskcache.archive import (
    CHUNK,
    COMPLETE,
    ENTRIES,
    HEADER,
    MISTAKE,
    SOURCE,
    TRAILER,
    VALUE,
    ArchiveReader,
    ArchiveWriter,
)
from tests.support import shapes
from tests.support.shapes import Money, Place

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = b"another secret of thirty-two byte"


class Thing:
    """A value, and a key, that is no plain data."""

    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return type(other) is Thing and other.name == self.name

    def __hash__(self):
        return hash(self.name)


ENTRIES_OF = {
    "text": "grün",
    b"\0": b"\xff",
    1: 2**63 - 1,
    1.5: -0.0,
    ("t", 1): {"a": (1, 2)},
    "large": "z" * 100_000,
    "large bytes": b"w" * 3_000_000,
    "large data": [*range(60_000)],
    "thing": Thing("small"),
    "large thing": Thing("x" * 100_000),
    Thing("key"): "by key",
    "empty": b"",
}


@pytest.fixture
def filled(make_cache, tmp_path):
    cache = make_cache(tmp_path / "source", secret=SECRET, disk_min_file_size=2**15)
    for number, (key, value) in enumerate(ENTRIES_OF.items()):
        cache.set(key, value, expire=1000 + number, tag=number)
    cache.set("stream", io.BytesIO(b"raw"), read=True)
    cache.set("gone", 1, expire=-1)
    return cache


def exported(cache, **options):
    stream = io.BytesIO()
    report = cache.export(stream, **options)
    assert report.size == len(stream.getvalue())
    return stream.getvalue(), report


def imported(cache, data, **options):
    return cache.import_from(io.BytesIO(data), **options)


def blocks(data):
    return list(ArchiveReader(io.BytesIO(data).read).blocks())


def rebuilt(parts):
    """Return an archive of these blocks."""
    stream = io.BytesIO()
    writer = ArchiveWriter(stream.write)
    for kind, value in parts:
        writer.put(kind, value)
    return stream.getvalue()


def loaded(block):
    return block.payload if block.kind == CHUNK else block.loads(type_of(block))


def type_of(block):
    return {ENTRIES: list, VALUE: tuple, COMPLETE: type(None)}.get(block.kind, dict)


# -- Round trips --


def test_import_stores_all_that_export_wrote(filled, make_cache, tmp_path):
    data, report = exported(filled)
    target = make_cache(tmp_path / "target", secret=SECRET)

    found = imported(target, data)

    assert found.entries == report.entries == len(ENTRIES_OF) + 1
    assert (found.skipped, found.refused, found.earlier, report.skipped) == (0, 0, 0, 0)
    for key in ENTRIES_OF:
        assert target.get(key, expire_time=True, tag=True) == filled.get(
            key, expire_time=True, tag=True
        )
    assert list(target) == [key for key in filled if key != "gone"]
    with target.read("stream") as reader:
        assert reader.read() == b"raw"


def test_export_holds_the_write_lock_for_nobody(filled):
    with filled.transact():
        data, _ = exported(filled)

    assert blocks(data)[-1].loads(dict) == {"entries": len(ENTRIES_OF) + 1}


def test_import_replaces_entries_and_keeps_others(filled, make_cache, tmp_path):
    data, _ = exported(filled)
    target = make_cache(tmp_path / "target", secret=SECRET)
    target["text"], target["large"], target["mine"] = "old", "o" * 50_000, 1

    imported(target, data)

    assert (target["text"], target["large"], target["mine"]) == ("grün", "z" * 100_000, 1)


def test_archive_needs_memory_for_a_block_not_for_all(make_cache, tmp_path):
    import tracemalloc

    source, target = make_cache(tmp_path / "s"), make_cache(tmp_path / "t")
    source.set("large", io.BytesIO(bytes(30_000_000)), read=True)
    path = tmp_path / "file"
    tracemalloc.start()
    try:
        source.export(path)
        target.import_from(path)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()
    assert target.volume() > 30_000_000


def test_export_to_a_pipe_and_import_from_it(filled, make_cache, tmp_path):
    import threading

    target = make_cache(tmp_path / "target", secret=SECRET)
    receiver, sender = os.pipe()

    def write():
        with os.fdopen(sender, "wb") as file:
            filled.export(file)
        filled.close()

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(receiver, "rb") as file:
        assert target.import_from(file).entries == len(ENTRIES_OF) + 1
    thread.join()


def test_export_to_a_path_replaces_the_file_at_the_end(filled, tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(b"old")

    filled.export(path)

    assert path.stat().st_mode & 0o777 == 0o600
    with Archive(path) as archive:
        assert archive.shards == 0
        assert archive.settings["eviction_policy"] == "least-recently-stored"
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


def test_export_that_fails_leaves_the_old_file(filled, tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(b"old")

    def fail(done, total):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        filled.export(path, progress=fail)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []


def test_compressed_values_travel_as_they_are(make_cache, tmp_path):
    source = make_cache(tmp_path / "s", secret=SECRET, compress="zlib")
    source["a"], source["b"] = "x" * 100_000, Thing("y" * 100_000)
    target = make_cache(tmp_path / "t", secret=SECRET)

    imported(target, exported(source)[0])

    assert (target["a"], target["b"]) == (source["a"], source["b"])
    assert target.volume() < 100_000


def test_registered_values_need_no_registration_to_travel(make_cache, tmp_path):
    source, target = make_cache(tmp_path / "s"), make_cache(tmp_path / "t")
    with shapes.registered(Place):
        shapes.register_money()
        source[Place("k")] = Money(1)
        shapes.unregister(Money)
    imported(target, exported(source)[0])
    with shapes.registered(Place):
        shapes.register_money()
        assert target[Place("k")] == Money(1)
        shapes.unregister(Money)


def test_locks_are_not_exported(make_cache, tmp_path):
    from diskcache import Lock

    source, target = make_cache(tmp_path / "s"), make_cache(tmp_path / "t")
    with Lock(source, "lock"):
        source["k"] = 1
        data, report = exported(source)
    imported(target, data)

    assert report.entries == 1
    assert list(target) == ["k"]


# -- Pickles --


def test_pickles_are_left_out_if_not_wanted(filled, make_cache, tmp_path):
    data, report = exported(filled, pickles=False)
    target = make_cache(tmp_path / "target", secret=SECRET)

    assert report.skipped == 3
    assert imported(target, data).entries == len(ENTRIES_OF) + 1 - 3


def test_pickles_of_another_secret_are_left_out_and_counted(filled, make_cache, tmp_path):
    data, _ = exported(filled)
    target = make_cache(tmp_path / "target", secret=OTHER)

    assert imported(target, data).skipped == 3
    assert "thing" not in target
    assert target["text"] == "grün"


def test_pickles_are_signed_anew_for_the_new_cache(filled, make_cache, tmp_path):
    data, _ = exported(filled)
    target = make_cache(tmp_path / "target", secret=SECRET)
    imported(target, data)

    old, new = (cache._engine.get(("thing", 1), 0.0)[1] for cache in (filled, target))
    assert old[:5] == new[:5]
    assert old[5:21] != new[5:21]
    assert old[21:] == new[21:]


def test_pickle_under_another_key_is_left_out(filled, make_cache, tmp_path):
    swapped = []
    for block in blocks(exported(filled)[0]):
        value = loaded(block)
        if block.kind == ENTRIES:
            value = [("other", *row[1:]) if row[0] == "thing" else row for row in value]
        swapped.append((block.kind, value))
    target = make_cache(tmp_path / "target", secret=SECRET)

    assert imported(target, rebuilt(swapped)).skipped == 1
    assert "other" not in target


def test_pickles_are_refused_where_pickling_is_off(filled, make_cache, tmp_path):
    target = make_cache(tmp_path / "target", pickle="never")

    assert imported(target, exported(filled)[0]).skipped == 3


def test_unsafe_caches_exchange_bare_pickles(make_cache, tmp_path):
    with pytest.warns(UnsafePickleWarning):
        source = make_cache(tmp_path / "s", pickle="unsafe")
        target = make_cache(tmp_path / "t", pickle="unsafe")
    signed = make_cache(tmp_path / "signed", secret=SECRET)
    source["k"], source[Thing("k")] = Thing("v"), 1
    data, _ = exported(source)
    imported(target, data)

    assert (target["k"], target[Thing("k")]) == (Thing("v"), 1)
    assert imported(signed, data).skipped == 2
    signed[Thing("k")] = 5
    imported(target, exported(signed)[0])
    assert target[Thing("k")] == 5


# -- Damage --


def test_archive_that_is_cut_anywhere_is_refused_and_can_be_continued(filled, make_cache, tmp_path):
    data, report = exported(filled)
    target = make_cache(tmp_path / "target", secret=SECRET)
    counts = []
    for cut in [*range(0, 2000, 97), *range(2000, len(data), len(data) // 13), len(data) - 1]:
        with pytest.raises(ArchiveError, match=r"truncated|no archive"):
            imported(target, data[:cut])
        counts.append(len(target))

    assert counts == sorted(counts)
    target.delete("text")
    found = imported(target, data)
    assert found.entries + found.earlier == report.entries
    assert found.earlier > 5
    assert len(target) == report.entries - 1
    assert imported(target, data).earlier == 0


def test_interrupted_import_of_rows_goes_on_behind_the_last_block(make_cache, tmp_path):
    source, target = make_cache(tmp_path / "s"), make_cache(tmp_path / "t")
    source.set_many(dict.fromkeys(range(100), "v" * 10000))
    data, _ = exported(source)
    with pytest.raises(ArchiveError):
        imported(target, data[: len(data) // 2])
    stored = len(target)
    target.delete(0)
    target[1] = "mine"

    found = imported(target, data)

    assert 20 < stored < 80
    assert (found.earlier, found.entries) == (stored, 100 - stored)
    assert 0 not in target
    assert target[1] == "mine"


@pytest.mark.parametrize("step", [211])
def test_archive_with_any_flipped_byte_is_refused(make_cache, tmp_path, step):
    source = make_cache(tmp_path / "s")
    source.set_many({n: "v" * n for n in range(60)})
    source["large"] = b"x" * 40_000
    data, _ = exported(source)
    target = make_cache(tmp_path / "t")
    for place in [*range(30), *range(30, len(data), step)]:
        bad = data[:place] + bytes((data[place] ^ 0x10,)) + data[place + 1 :]
        with pytest.raises(ArchiveError):
            imported(target, bad)

    assert set(target) <= set(source)


def test_blocks_cannot_be_left_out_repeated_or_moved(filled, make_cache, tmp_path):
    data, _ = exported(filled)
    target = make_cache(tmp_path / "target", secret=SECRET)
    places, start = [], 8
    for block in blocks(data):
        places.append((start, start + 5 + len(block.payload) + 16))
        start = places[-1][1]
    (a, b), (c, d) = places[2], places[3]
    for wrong in (
        data[:a] + data[b:],
        data[:b] + data[a:],
        data[:a] + data[c:d] + data[a:b] + data[d:],
    ):
        with pytest.raises(ArchiveError, match="digest is wrong"):
            imported(target, wrong)


@pytest.mark.parametrize(
    "data", [b"", b"DcArch", b"DcArch02" + bytes(50), b"PK\x03\x04" + bytes(50)]
)
def test_what_is_no_archive_is_refused(make_cache, data):
    with pytest.raises(ArchiveError):
        imported(make_cache(), data)


HEAD = {
    "id": bytes(16),
    "shards": 0,
    "settings": {},
    "writer": "",
    "created": 0.0,
    "version": "6",
}
FROM = {"cache_id": bytes(16)}


def archive_of(*parts, header=HEAD, source=FROM):
    return rebuilt([(HEADER, header), (SOURCE, source), *parts])


GOOD = ("k", 1, 1, "v", None, None)


def test_archive_that_is_made_by_hand_is_read(make_cache):
    cache = make_cache()

    found = imported(cache, archive_of((ENTRIES, [GOOD]), (TRAILER, {"entries": 1})))

    assert found.entries == 1
    assert cache["k"] == "v"


@pytest.mark.parametrize(
    "row",
    [
        ("k", 1, 1, "v", None),
        ["k", 1, 1, "v", None, None],
        (None, 1, 1, "v", None, None),
        (True, 1, 1, "v", None, None),
        (2**63, 1, 1, "v", None, None),
        (float("nan"), 1, 1, "v", None, None),
        ("\ud800", 1, 1, "v", None, None),
        ("k", 2, 1, "v", None, None),
        ("k", 0, 1, "v", None, None),
        (b"k", 0, 1, "v", None, None),
        (b"\x91\xcb\x80\0\0\0\0\0\0\0", 0, 1, "v", None, None),
        ("k", 1, 0, "v", None, None),
        ("k", 1, 65, "v", None, None),
        ("k", 1, 69, b"\xc0", None, None),
        ("k", 1, 2, b"v", None, None),
        ("k", 1, 3, "v", None, None),
        ("k", 1, 4, "v", None, None),
        ("k", 1, 5, None, None, None),
        ("k", 1, 10, b"v", None, None),
        ("k", 1, 9 | 16, b"v", None, None),
        ("k", 1, 17, b"v", None, None),
        ("k", 1, 53, b"v", None, None),
        ("k", 1, True, "v", None, None),
        ("k", 1, 1, (1,), None, None),
        ("k", 1, 1, "v", "soon", None),
        ("k", 1, 1, "v", float("nan"), None),
        ("k", 1, 1, "v", None, (1,)),
        ("k", 1, 1, "v", None, 2**64),
    ],
    ids=repr,
)
def test_entry_that_no_cache_could_hold_is_refused(make_cache, row):
    cache = make_cache()
    first = ("first", *GOOD[1:])

    with pytest.raises(ArchiveError, match=r"block 3 of the archive"):
        imported(cache, archive_of((ENTRIES, [first]), (ENTRIES, [GOOD, row])))
    assert list(cache) == ["first"]


@pytest.mark.parametrize(
    "parts",
    [
        [(VALUE, ("k", 1, 2, None, None, None, 3)), (CHUNK, b"abcd"), (COMPLETE, None)],
        [(VALUE, ("k", 1, 2, None, None, None, 3)), (CHUNK, b"ab"), (COMPLETE, None)],
        [(VALUE, ("k", 1, 2, None, None, None, 3)), (CHUNK, b""), (CHUNK, b"abc")],
        [(VALUE, ("k", 1, 2, None, None, None, 3)), (ENTRIES, [GOOD])],
        [(VALUE, ("k", 1, 2, None, None, None, 3)), (TRAILER, {"entries": 1})],
        [(VALUE, ("k", 1, 2, None, None, None, -3))],
        [(VALUE, ("k", 1, 1, None, None, None, 3))],
        [(VALUE, ("k", 1, 2, b"abc", None, None, 3))],
        [(VALUE, ("k", 1, 66, None, None, None, 3))],
        [(CHUNK, b"abc")],
        [(COMPLETE, None)],
        [(MISTAKE, None)],
        [(HEADER, HEAD)],
        [(ENTRIES, {"a": 1})],
        [(ENTRIES, [GOOD]), (TRAILER, {"entries": 2})],
        [(TRAILER, {})],
        [(SOURCE, {"cache_id": b"short"})],
    ],
    ids=repr,
)
def test_blocks_that_do_not_fit_are_refused_and_leave_no_file(make_cache, parts):
    cache = make_cache()

    with pytest.raises(ArchiveError):
        imported(cache, archive_of(*parts))
    assert "k" not in cache or parts[0][0] == ENTRIES


@pytest.mark.parametrize("name", sorted(HEAD))
def test_header_with_a_wrong_field_is_refused(make_cache, name):
    with pytest.raises(ArchiveError, match=f"no valid {name}"):
        imported(make_cache(), archive_of(header={**HEAD, name: None}))


def test_entries_before_their_source_are_refused(make_cache):
    with pytest.raises(ArchiveError, match="not where it belongs"):
        imported(make_cache(), rebuilt([(HEADER, HEAD), (ENTRIES, [GOOD])]))


def test_length_that_is_a_lie_takes_no_memory(make_cache):
    data = archive_of()[:-4] + ENTRIES + (2**30).to_bytes(4, "big") + b"short"

    with pytest.raises(ArchiveError):
        imported(make_cache(), data)


def test_settings_of_an_archive_are_believed_only_in_range():
    settings = {"size_limit": -1, "cull_limit": 5, "secret": b"x"}

    archive = Archive(io.BytesIO(archive_of(header={**HEAD, "settings": settings})))

    assert archive.settings == {"cull_limit": 5}


@pytest.mark.damaged("a file is cut")
def test_value_file_that_is_damaged_is_left_out(make_cache, tmp_path):
    source, target = make_cache(tmp_path / "s"), make_cache(tmp_path / "t")
    source["good"], source["bad"], source["cut"] = "g" * 40_000, "b" * 40_000, "c" * 40_000
    for key, change in (("bad", b"B"), ("cut", None)):
        name = source._engine.get((key, 1), 0.0)[2]
        path = tmp_path / "s" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] if change is None else change + content[1:])
    data, report = exported(source)

    assert (report.entries, report.skipped) == (1, 2)
    assert imported(target, data).entries == 1
    assert list(target.items()) == [("good", "g" * 40_000)]


# -- Limits and writers --


def test_value_over_the_limit_is_refused_and_counted(make_cache, tmp_path):
    source = make_cache(tmp_path / "s")
    source["large"], source["inline"], source["small"] = "x" * 200_000, "y" * 30_000, 1
    target = make_cache(tmp_path / "t", size_limit=20_000)

    assert imported(target, exported(source)[0]).refused == 2
    assert list(target) == ["small"]


def test_archive_of_another_writer_is_refused(make_cache, tmp_path):
    with Cache(tmp_path / "s", disk=JSONDisk) as source:
        source["k"], source[(1, 2)] = {"a": 1}, "x" * 100_000
        data, _ = exported(source)
    with pytest.raises(SettingError, match=r"written with 'diskcache\.JSONDisk'"):
        imported(make_cache(tmp_path / "t"), data)
    with Cache(tmp_path / "u", disk=JSONDisk) as target:
        target["mark"] = 1
        assert imported(target, data).entries == 2
        assert (target["k"], target[(1, 2)]) == ({"a": 1}, "x" * 100_000)
        assert target.check() == []


def test_import_inside_a_transaction_is_refused(make_cache):
    cache = make_cache()
    with cache.transact():
        for operation in (
            lambda: imported(cache, archive_of()),
            lambda: cache.backup("anywhere"),
        ):
            with pytest.raises(TransactionError, match="cannot be part of a transaction"):
                operation()


# -- Shards, deques, indexes --


def test_fanout_archive_goes_into_any_cache(make_cache, tmp_path):
    with (
        FanoutCache(tmp_path / "f", shards=3, secret=SECRET) as source,
        FanoutCache(tmp_path / "g", shards=5, secret=SECRET) as target,
    ):
        for key, value in ENTRIES_OF.items():
            source[key] = value
        source.push("job", prefix="jobs")
        data, report = exported(source)
        single = make_cache(tmp_path / "c", secret=SECRET)
        found, also = imported(target, data), imported(single, data)

        assert found.entries == also.entries == report.entries == len(ENTRIES_OF) + 1
        for key, value in ENTRIES_OF.items():
            assert target[key] == single[key] == value
        assert target.pull(prefix="jobs")[1] == "job"
        with target.transact(), pytest.raises(TransactionError):
            imported(target, data)
        assert [str(each.message) for each in target.check()] == []


def test_interrupted_fanout_import_goes_on(tmp_path):
    with (
        FanoutCache(tmp_path / "f", shards=3) as source,
        FanoutCache(tmp_path / "g", shards=4) as target,
    ):
        for number in range(40):
            source[number], source[f"k{number}"] = number, bytes(40_000)
        data, report = exported(source)
        with pytest.raises(ArchiveError):
            imported(target, data[: len(data) // 2])
        found = imported(target, data)

        assert found.earlier > 0
        assert found.entries + found.earlier == report.entries == len(target)
        assert [target[number] for number in range(40)] == list(range(40))


def test_deque_archive_goes_into_an_empty_deque_only(tmp_path):
    with (
        Deque([1, ("a",), "x" * 50_000], directory=tmp_path / "d") as deque,
        Deque(directory=tmp_path / "e") as target,
        Index(tmp_path / "i", a=1) as index,
    ):
        stream = io.BytesIO()
        deque.export(stream)
        with pytest.raises(ArchiveError):
            target.import_from(io.BytesIO(stream.getvalue()[:-20]))
        assert target.import_from(io.BytesIO(stream.getvalue())).earlier == 3
        assert list(target) == list(deque)
        target.appendleft(0)
        assert target.popleft() == 0
        with pytest.raises(SettingError, match="has items already"):
            target.import_from(io.BytesIO(stream.getvalue()))
        other = io.BytesIO()
        index.export(other)
        with Deque(directory=tmp_path / "n") as empty:
            with pytest.raises(ArchiveError, match="cannot be here"):
                empty.import_from(io.BytesIO(other.getvalue()))
            assert len(empty) == 0


def test_index_archive_keeps_order_and_refuses_to_lose(tmp_path):
    source = Index.fromcache(Cache(tmp_path / "s", eviction_policy="none", secret=SECRET))
    target = Index.fromcache(Cache(tmp_path / "t", eviction_policy="none", secret=SECRET))
    other = Index.fromcache(Cache(tmp_path / "o", eviction_policy="none", secret=OTHER))
    with source, target, other:
        source.update({"b": 1, "a": Thing("t"), ("k",): "x" * 50_000})
        stream = io.BytesIO()
        source.export(stream)

        target.import_from(io.BytesIO(stream.getvalue()))
        assert list(target.items()) == list(source.items())
        with pytest.raises(UntrustedPickleError, match="1 entries are pickles"):
            other.import_from(io.BytesIO(stream.getvalue()))
        assert list(other) == ["b", ("k",)]


def test_index_import_over_the_limit_raises(tmp_path):
    with Index(tmp_path / "s", large="x" * 100_000) as source:
        stream = io.BytesIO()
        source.export(stream)
    small = Cache(tmp_path / "t", size_limit=30_000)
    with Index.fromcache(small) as target, pytest.raises(TooLargeError):
        target.import_from(io.BytesIO(stream.getvalue()))
