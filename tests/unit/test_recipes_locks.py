"""Locks and semaphores in one process, on a clock that only the test moves."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading

import pytest

from diskcache import (
    BoundedSemaphore,
    Disk,
    FanoutCache,
    GateError,
    KeyInUseError,
    Lock,
    LockReleaseError,
    RLock,
    Semaphore,
)
from diskcache.engines.sqlite.gate import Gate
from diskcache.entry import GUARD, MODE
from diskcache.errors import ReadOnlyError
from diskcache.recipes import liveness, locks

KINDS = [Lock, RLock, BoundedSemaphore, Semaphore]
each_kind = pytest.mark.parametrize("kind", KINDS)
not_shared = pytest.mark.parametrize("kind", [Lock, BoundedSemaphore, Semaphore])


@pytest.fixture(autouse=True)
def nothing_stays_held(make_cache):
    """Let go of what a test holds at its end, as the end of its process would."""
    yield
    liveness._kept.clear()
    if len(liveness._owners):
        gc.collect()


def in_thread(function, *args):
    """Return what *function* returns, or raises, in another thread."""
    result = []

    def run():
        try:
            result.append(function(*args))
        except LockReleaseError as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return result[0]


def replace_holder(cache, key, **fields):
    """Write other fields into the only holder of a lock."""
    value = cache[key]
    holder = locks.Holder(*value[3:])._replace(**fields)
    encoded = cache._encode_key(key)
    from diskcache.codecs import plain

    data = plain.dumps((*value[:3], *holder))
    cache._engine.put(encoded, (5 | GUARD, data, None), None, None, cache._now(), None)


# -- Shaped like threading ---------------------------------------------------------------------


@each_kind
def test_acquire_returns_growing_numbers_of_at_least_one(cache, kind):
    lock = kind(cache, "k")
    numbers = []
    for _ in range(3):
        numbers.append(lock.acquire())
        lock.release()

    assert numbers[0] >= 1
    assert numbers == sorted(set(numbers))
    assert all(type(number) is int for number in numbers)


@each_kind
def test_number_grows_when_the_entry_was_deleted_or_the_cache_cleared(cache, kind):
    first = kind(cache, "k").acquire()
    cache.clear()

    second = kind(cache, "k").acquire()
    cache.delete("k")

    assert first < second < kind(cache, "k").acquire()


@each_kind
def test_lock_is_locked_while_held_and_leaves_no_entry(cache, kind):
    lock = kind(cache, "k")

    assert not lock.locked()

    with lock as nothing:
        assert nothing is None
        assert lock.locked()
        assert kind(cache, "k").locked()
        assert "k" in cache

    assert not lock.locked()
    assert len(cache) == 0


@not_shared
def test_acquire_without_blocking_of_a_taken_lock_returns_false(cache, clock, kind):
    lock = kind(cache, "k")
    lock.acquire()
    before = clock.monotonic()

    assert lock.acquire(blocking=False) is False
    assert kind(cache, "k").acquire(False) is False
    assert clock.monotonic() == before


@not_shared
def test_acquire_with_timeout_waits_that_long(cache, clock, kind):
    kind(cache, "k").acquire()
    before = clock.monotonic()

    assert kind(cache, "k").acquire(timeout=5) is False
    assert 5 <= clock.monotonic() - before < 5.001


def test_acquire_naps_longer_and_longer_but_never_over_a_twentieth_of_a_second(
    cache, clock, monkeypatch
):
    Lock(cache, "k").acquire()
    naps = []
    monkeypatch.setattr(
        clock, "sleep", lambda seconds: (naps.append(seconds), clock.advance(seconds))
    )
    Lock(cache, "k").acquire(timeout=10)

    assert naps[0] <= 0.001
    assert 0.025 <= max(naps) <= 0.05
    assert len(naps) < 10 / 0.025 + 20
    assert len(set(naps)) > len(naps) / 2


@each_kind
@pytest.mark.parametrize(
    ("args", "message"),
    [((False, 1), "non-blocking"), ((True, -2), "timeout must be"), ((False, 0), "non-blocking")],
)
def test_acquire_refuses_what_threading_refuses(cache, kind, args, message):
    with pytest.raises(ValueError, match=message):
        kind(cache, "k").acquire(*args)


@each_kind
def test_acquire_refuses_a_timeout_that_no_lock_can_wait_for(cache, kind):
    with pytest.raises(OverflowError, match="timeout must be at most"):
        kind(cache, "k").acquire(timeout=1e100)


@each_kind
def test_acquire_takes_none_for_no_timeout(cache, kind):
    assert kind(cache, "k").acquire(timeout=None) >= 1


@pytest.mark.parametrize("kind", [Lock, RLock, BoundedSemaphore])
@pytest.mark.parametrize("error", [RuntimeError, AssertionError, ValueError])
def test_release_of_a_free_lock_is_an_error(cache, kind, error):
    with pytest.raises(error, match="not held here"):
        kind(cache, "k").release()


@pytest.mark.parametrize("kind", [Lock, BoundedSemaphore])
def test_release_through_an_object_that_did_not_take_it_is_an_error(cache, make_cache, kind):
    lock = kind(cache, "k")
    lock.acquire()
    for stranger in (kind(cache, "k"), kind(make_cache(), "k"), copy.copy(lock)):
        with pytest.raises(LockReleaseError):
            stranger.release()

    assert lock.locked()
    lock.release()


@not_shared
def test_release_by_another_thread_through_the_object_works(cache, kind):
    lock = kind(cache, "k")
    lock.acquire()

    assert in_thread(lock.release) is None
    assert not lock.locked()


@each_kind
def test_lock_is_released_when_the_block_raises(cache, kind):
    lock = kind(cache, "k")
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError

    assert not lock.locked()


@each_kind
def test_pickled_lock_is_the_same_lock_and_holds_nothing(cache, kind):
    lock = kind(cache, "k", expire=5, tag="t")
    lock.acquire()
    again = pickle.loads(pickle.dumps(lock))

    assert type(again) is kind
    assert again.locked()
    assert again._expire == 5
    again._cache.close()


def test_pickled_semaphore_keeps_its_number_of_permits(cache):
    again = copy.copy(BoundedSemaphore(cache, "k", value=3))

    assert [bool(again.acquire(False)) for _ in range(4)] == [True, True, True, False]


@each_kind
def test_repr_names_cache_and_key(cache, kind):
    assert repr(kind(cache, "k")) == f"{kind.__name__}({cache!r}, 'k')"


@each_kind
@pytest.mark.parametrize("expire", [0, -1, float("nan")])
def test_expire_must_be_above_zero(cache, kind, expire):
    with pytest.raises(ValueError, match="expire must be"):
        kind(cache, "k", expire=expire)


@each_kind
def test_cache_must_be_a_cache(kind):
    with pytest.raises(TypeError, match="Cache or a FanoutCache"):
        kind({}, "k")


# -- Re-entrant --------------------------------------------------------------------------------


def test_rlock_is_taken_again_by_its_thread_and_released_as_often(cache):
    lock = RLock(cache, "k")
    number = lock.acquire()

    assert lock.acquire(blocking=False) == number
    assert RLock(cache, "k").acquire(blocking=False) == number
    for _ in range(3):
        assert lock.locked()
        lock.release()

    assert not lock.locked()
    with pytest.raises(LockReleaseError):
        lock.release()


def test_rlock_is_not_taken_or_released_by_another_thread(cache):
    lock = RLock(cache, "k")
    lock.acquire()

    assert in_thread(lock.acquire, False) is False
    assert isinstance(in_thread(lock.release), LockReleaseError)
    assert lock.locked()
    lock.release()

    assert in_thread(lock.acquire, False) >= 1


# -- Semaphores --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BoundedSemaphore, Semaphore])
def test_semaphore_has_as_many_permits_as_its_value(cache, kind):
    semaphores = [kind(cache, "k", value=3) for _ in range(4)]

    assert [bool(each.acquire(blocking=False)) for each in semaphores] == [True] * 3 + [False]
    assert semaphores[3].locked()
    semaphores[0].release()

    assert not semaphores[3].locked()
    assert semaphores[3].acquire(blocking=False)


@pytest.mark.parametrize("kind", [BoundedSemaphore, Semaphore])
def test_semaphore_releases_several_permits_at_once(cache, kind):
    semaphore = kind(cache, "k", value=3)
    for _ in range(3):
        semaphore.acquire()
    semaphore.release(3)

    assert len(cache) == 0


def test_bounded_semaphore_releases_all_or_none(cache):
    semaphore = BoundedSemaphore(cache, "k", value=3)
    semaphore.acquire()
    with pytest.raises(LockReleaseError):
        semaphore.release(2)

    semaphore.release()
    with pytest.raises(LockReleaseError):
        semaphore.release()


@pytest.mark.parametrize("kind", [BoundedSemaphore, Semaphore])
def test_semaphore_refuses_what_threading_refuses(cache, kind):
    with pytest.raises(ValueError, match="value must be"):
        kind(cache, "k", value=-1)
    with pytest.raises(ValueError, match="n must be"):
        kind(cache, "k").release(0)


def test_semaphore_gets_a_permit_from_who_has_none(cache):
    consumer, producer = Semaphore(cache, "k", value=0), Semaphore(cache, "k", value=0)

    assert consumer.acquire(blocking=False) is False
    producer.release(2)

    assert consumer.acquire(blocking=False)
    assert consumer.acquire(blocking=False)
    assert consumer.acquire(blocking=False) is False
    assert len(cache) == 0


def test_semaphore_gives_its_own_permits_back_before_it_adds_any(cache):
    semaphore = Semaphore(cache, "k")
    semaphore.acquire()
    semaphore.release(2)

    assert [bool(semaphore.acquire(False)) for _ in range(3)] == [True, True, False]


# -- Leases ------------------------------------------------------------------------------------


@each_kind
def test_lease_ends_after_expire_and_not_before(cache, clock, kind):
    lock = kind(cache, "k", expire=10)
    first = in_thread(lock.acquire)
    clock.advance(9.9)

    assert kind(cache, "k").acquire(blocking=False) is False

    clock.advance(0.2)

    assert not lock.locked()
    assert kind(cache, "k").acquire(blocking=False) > first


@each_kind
def test_waiter_gets_the_lock_when_the_lease_ends(cache, clock, kind):
    in_thread(kind(cache, "k", expire=10).acquire)
    before = clock.monotonic()

    assert kind(cache, "k").acquire()
    assert 10 <= clock.monotonic() - before <= 10.1


@each_kind
def test_lock_without_lease_is_never_taken_from_who_lives(cache, clock, kind):
    lock = kind(cache, "k")
    in_thread(lock.acquire)
    clock.advance(10**9)

    assert kind(cache, "k", expire=1).acquire(blocking=False) is False


@pytest.mark.parametrize("kind", [Lock, BoundedSemaphore])
def test_release_after_another_took_the_lock_is_an_error(cache, clock, kind):
    lock = kind(cache, "k", expire=10)
    lock.acquire()
    clock.advance(11)
    other = kind(cache, "k")
    other.acquire()
    with pytest.raises(LockReleaseError, match="its lease ended"):
        lock.release()

    assert other.locked()
    other.release()


def test_release_after_the_lease_that_nobody_else_took_works(cache, clock):
    lock = Lock(cache, "k", expire=10)
    lock.acquire()
    clock.advance(11)
    lock.release()

    assert len(cache) == 0


def test_lease_of_an_rlock_starts_anew_each_time(cache, clock):
    lock = RLock(cache, "k", expire=10)
    lock.acquire()
    clock.advance(8)
    lock.acquire()
    clock.advance(8)

    assert in_thread(lock.acquire, False) is False


@pytest.mark.parametrize("jump", [-(10**6), 10**6])
def test_setting_the_clock_changes_no_lease(cache, clock, jump):
    lock = Lock(cache, "k", expire=10)
    lock.acquire()
    clock._time += jump

    assert Lock(cache, "k").acquire(blocking=False) is False

    cache.expire()

    assert lock.locked()

    clock.advance(11)

    assert Lock(cache, "k").acquire(blocking=False)


def test_lease_of_another_boot_does_not_count(cache, clock):
    lock = Lock(cache, "k", expire=10)
    lock.acquire()
    replace_holder(cache, "k", boot=12345, until=0.0)

    assert lock.locked()


# -- Holders that are gone ---------------------------------------------------------------------


@each_kind
def test_holder_without_a_file_is_dead(cache, kind):
    lock = kind(cache, "k")
    first = in_thread(lock.acquire)
    replace_holder(cache, "k", token="0" * 32)

    assert not lock.locked()
    assert kind(cache, "k").acquire(blocking=False) > first


def test_holder_with_a_file_that_nobody_locked_is_dead_and_its_file_removed(cache, directory):
    lock = Lock(cache, "k")
    lock.acquire()
    replace_holder(cache, "k", token="0" * 32)
    (directory / "locks" / ("0" * 32)).touch()

    assert not lock.locked()
    assert not (directory / "locks" / ("0" * 32)).exists()


@pytest.mark.parametrize("token", ["../../cache.db", "", "x" * 32, "fence"])
def test_token_that_is_no_name_of_ours_is_dead(cache, directory, token):
    lock = Lock(cache, "k")
    lock.acquire()
    replace_holder(cache, "k", token=token)

    assert not lock.locked()
    assert (directory / "cache.db").exists()


def test_number_is_above_those_that_the_entry_names(cache, directory):
    lock = Lock(cache, "k")
    lock.acquire()
    replace_holder(cache, "k", token="0" * 32, fence=1000)

    assert Lock(cache, "k").acquire() == 1001


# -- Where the entry is ------------------------------------------------------------------------


@each_kind
def test_lock_is_neither_evicted_nor_culled(cache, kind):
    lock = kind(cache, "k", tag="t")
    lock.acquire()
    cache.evict("t")
    cache.evict(None)
    cache.reset("size_limit", 0)
    cache.cull()

    assert lock.locked()
    cache.reset("size_limit", 2**30)


def test_entry_of_a_lock_has_the_guard_bit_its_tag_and_no_expiry(cache):
    Lock(cache, "k", expire=5, tag="t").acquire()
    row = cache._engine.get(("k", 1), cache._now())

    assert row[MODE] & GUARD
    assert cache.get("k", expire_time=True, tag=True)[1:] == (None, "t")


def test_looking_at_a_lock_does_not_count_as_reading(make_cache):
    cache = make_cache(statistics=True)
    with Lock(cache, "k") as _:
        Lock(cache, "k").acquire(timeout=1)

    assert cache.stats() == (0, 0)


@each_kind
@pytest.mark.parametrize("value", ["text", 1.5, (1, 2), ("lock", 2), ("lock", 1, 0, "x")])
def test_key_of_another_entry_is_refused_and_the_entry_kept(cache, kind, value):
    cache["k"] = value
    for action in (kind(cache, "k").acquire, kind(cache, "k").release, kind(cache, "k").locked):
        with pytest.raises(KeyInUseError, match="'k' is not that of a"):
            action()

    assert cache["k"] == value


@each_kind
@pytest.mark.parametrize("value", [None, 0, 3, ("123-456", 0), ("123-456", 2)])
def test_lock_that_version_5_left_is_free(cache, kind, value):
    cache["k"] = value
    lock = kind(cache, "k")

    assert not lock.locked()
    assert lock.acquire(blocking=False)


class Odd(Disk):
    """A disk that turns every value around, and takes nothing else back."""

    def store(self, value, read, key=None):
        return super().store(["odd", value], read)

    def fetch(self, mode, filename, value, read):
        kind, inner = super().fetch(mode, filename, value, read)
        if kind != "odd":
            raise ValueError(kind)
        return inner


@each_kind
def test_lock_does_not_depend_on_the_disk(make_cache, kind):
    cache = make_cache(disk=Odd)
    with kind(cache, "k") as _:
        assert in_thread(kind(cache, "k").acquire, False) is False
        assert cache["k"][0] == "lock"

    assert len(cache) == 0


def test_lock_inside_a_transaction_is_taken_and_undone_with_it(cache):
    lock = Lock(cache, "k")
    with pytest.raises(ZeroDivisionError), cache.transact():
        lock.acquire()
        raise ZeroDivisionError

    assert not lock.locked()
    with pytest.raises(LockReleaseError):
        lock.release()


def test_waiting_inside_a_transaction_is_an_error_at_once(cache):
    Lock(cache, "k").acquire()
    with cache.transact():
        assert Lock(cache, "k").acquire(blocking=False) is False
        with pytest.raises(GateError, match="inside a transaction"):
            Lock(cache, "k").acquire()


def test_acquire_inside_a_transaction_of_another_object_is_an_error(cache, make_cache):
    other = make_cache()
    with cache.transact(), pytest.raises(GateError):
        Lock(other, "k").acquire()


def test_acquire_returns_false_when_the_cache_is_not_writable_in_time(cache, make_cache):
    entered, leave = threading.Event(), threading.Event()

    def write():
        with cache.transact():
            entered.set()
            leave.wait(60)
        cache.close()

    thread = threading.Thread(target=write)
    thread.start()
    entered.wait(60)

    assert Lock(make_cache(), "k").acquire(timeout=0.01) is False

    leave.set()
    thread.join(60)


@pytest.mark.usefixtures("no_looks")
def test_release_waits_without_limit_and_is_no_timeout(cache, monkeypatch):
    lock = Lock(cache, "k")
    lock.acquire()
    waits = []
    real = Gate.acquire
    monkeypatch.setattr(
        Gate, "acquire", lambda gate, wait, by: (waits.append(wait), real(gate, wait, by))[1]
    )
    lock.release()

    assert waits == [None]


def test_acquire_on_a_readonly_cache_is_an_error_and_writes_nothing(cache, make_cache, directory):
    cache.close()
    readonly = make_cache(readonly=True)
    with pytest.raises(ReadOnlyError):
        Lock(readonly, "k").acquire()

    assert not (directory / "locks").exists()


def test_lock_works_after_its_directory_was_removed_and_made_again(cache, make_cache, directory):
    import shutil

    lock = Lock(cache, "k")
    lock.acquire()
    shutil.rmtree(directory)
    again = make_cache()
    mine = Lock(again, "k")

    assert mine.acquire(blocking=False)
    assert Lock(again, "k").acquire(blocking=False) is False
    mine.release()


# -- The files of owners -----------------------------------------------------------------------


def names(directory):
    return sorted(os.listdir(directory / "locks"))


def test_file_is_there_while_a_lock_may_need_it(cache, directory):
    lock, other = Lock(cache, "k"), Lock(cache, "l")
    with lock, other:
        token = cache["k"][3]

        assert cache["l"][3] == token
        assert names(directory) == sorted([token, "fence"])
        assert (directory / "locks" / token).stat().st_mode & 0o777 == 0o600
        assert (directory / "locks").stat().st_mode & 0o777 == 0o700

    del other

    assert names(directory) == sorted([token, "fence"])

    del lock

    assert names(directory) == ["fence"]


def test_file_stays_while_a_lock_is_held_whose_object_is_gone(cache, directory):
    Lock(cache, "k").acquire()

    assert len(names(directory)) == 2
    assert Lock(cache, "k").locked()

    cache.delete("k")
    liveness.let_go(liveness.known_owner(os.path.realpath(directory)))

    assert names(directory) == ["fence"]


def test_files_of_the_dead_are_swept_by_who_comes(cache, directory):
    (directory / "locks").mkdir()
    for digit in "123":
        (directory / "locks" / (digit * 32)).touch()
    (directory / "locks" / "notes.txt").touch()
    with Lock(cache, "k") as _:
        assert len(names(directory)) == 3
        assert "notes.txt" in names(directory)

    (directory / "locks" / "notes.txt").unlink()


def test_folder_that_is_a_link_is_refused(cache, directory, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (directory / "locks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="locks"):
        Lock(cache, "k").acquire()

    assert list((tmp_path / "elsewhere").iterdir()) == []
    (directory / "locks").unlink()


def test_check_knows_the_files_of_locks(cache, directory):
    with Lock(cache, "k") as _:
        assert cache.check() == []
        assert cache.check(fix=True) == []
        assert len(names(directory)) == 2


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 16, b"\0" * 16])
def test_damaged_record_of_numbers_is_overwritten(cache, directory, content, monkeypatch):
    monkeypatch.setattr(liveness.host, "boot_id", lambda: 0)
    (directory / "locks").mkdir()
    (directory / "locks" / "fence").write_bytes(content)
    lock = Lock(cache, "k")
    first = lock.acquire()
    lock.release()

    assert 1 <= first < lock.acquire()


def test_number_after_a_boot_is_above_what_a_power_failure_may_have_lost(cache, monkeypatch):
    lock = Lock(cache, "k")
    first = lock.acquire()
    lock.release()
    monkeypatch.setattr(liveness.host, "boot_id", lambda: 99)

    assert lock.acquire() == 2**32 > first


# -- Several caches behind one face ------------------------------------------------------------


@each_kind
@pytest.mark.parametrize(
    "key", [0, 1.0, "text", "ü", (1, "a"), 500_000_000_000_001, "q-500000000000001"]
)
def test_lock_is_in_the_shard_of_its_key(tmp_path, kind, key):
    with FanoutCache(tmp_path / "shards", 3) as cache:
        lock = kind(cache, key)
        lock.acquire()

        assert key in cache
        assert kind(cache, key).locked()
        assert kind(cache, float(key) if type(key) is int else key).locked()

        lock.release()

        assert len(cache) == 0
