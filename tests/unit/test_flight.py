"""Single flight: files that strangers may have written, rings, forks, and what cannot be made."""

from __future__ import annotations

import errno
import os
import sys
import threading
from datetime import timedelta

import pytest

from diskcache import (
    Cache,
    LoaderError,
    LoaderTimeoutError,
    flight,
    host,
    json_serializer,
    signs,
)
from diskcache.background import Background
from diskcache.codecs import plain
from diskcache.computing import steps
from diskcache.computing.ways import Blocking, run
from diskcache.errors import (
    DiskCacheError,
    RecursiveLoaderError,
    ServerUnavailableError,
    TooLargeError,
)
from diskcache.failures import Failure
from diskcache.flight import Flight, Landing, LockFile, place_of
from diskcache.testing.contract.together import in_threads, until_expected, until_landed


@pytest.fixture
def place(cache, directory):
    return place_of(os.path.realpath(directory), ("k", 1))


@pytest.fixture
def waiting(cache):
    return Blocking(cache._computed)


class OwnError(Exception):
    """One that nobody else knows."""


def path_of(place):
    return os.path.join(place.directory, "locks", place.name)


def leads_to(place, goals, waiting):
    return run(flight._leads_to(place, goals, {place.directory: LockFile}, waiting))


def test_place_is_that_of_the_key_alone():
    assert place_of("/a", ("k", 1)) == place_of("/a", ("k", 1))
    assert place_of("/a", (1, 1)) == place_of("/a", (1.0, 1))
    assert len({place_of("/a", key).name for key in [("k", 1), (b"k", 1), (b"k", 0), (1, 1)]}) == 4


def test_file_is_there_while_the_flight_is(place):
    file = LockFile(place)

    assert file.take() is True
    assert os.path.exists(path_of(place))
    other = LockFile(place)
    assert other.take() is False
    other.close()
    file.release(())
    assert not os.path.exists(path_of(place))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (("failed", "builtins.ValueError", ("no",), "no"), (ValueError, ("no",))),
        (("failed", "builtins.SystemExit", (1,), "1"), (LoaderError, ("builtins.SystemExit", "1"))),
        (("failed", "builtins.exec", ("1",), "t"), (LoaderError, ("builtins.exec", "t"))),
        (("failed", "diskcache.errors.DiskCacheError", ("t",), "t"), (DiskCacheError, ("t",))),
        (("failed", "diskcache.errors.sqlite3", ("t",), "t"),
         (LoaderError, ("diskcache.errors.sqlite3", "t"))),
        (("failed", "os.system", ("true",), "t"), (LoaderError, ("os.system", "t"))),
        (("failed", "builtins.UnicodeDecodeError", (), "t"),
         (LoaderError, ("builtins.UnicodeDecodeError", "t"))),
        (("failed", "nonsense", None, "t"), (LoaderError, ("nonsense", "t"))),
    ],
)  # fmt: skip
def test_waiting_process_gets_the_exception_of_the_flight(place, record, expected):
    one, two = LockFile(place), LockFile(place)
    one.take()
    assert two.take() is False
    one.release(record)
    landing = two.take()

    assert (type(landing.error), landing.error.args) == expected
    assert landing.error.__notes__ == [signs.NOTE]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 10, b"x" * 5000, plain.dumps("text"), plain.dumps(("failed", 1, 2, 3)),
        plain.dumps(("waits", 1, ("/etc", "../passwd"), ("/etc", "0" * 32))), plain.dumps(()),
        plain.dumps([("waits", "/a")]), plain.dumps({"failed": 1}),
    ],
)  # fmt: skip
def test_content_that_a_stranger_wrote_does_no_harm(cache, place, waiting, content):
    os.makedirs(os.path.dirname(path_of(place)), exist_ok=True)
    with open(path_of(place), "wb") as file:
        file.write(content)

    assert LockFile(place).peek() is not None
    assert leads_to(place, {place._replace(name="f" * 32)}, waiting) is False
    assert cache.get_or_set("k", lambda: 1) == 1
    assert not os.path.exists(path_of(place))


@pytest.mark.parametrize("plant", ["link", "folder", "pipe"])
def test_thing_that_is_no_file_at_the_place_is_not_used(cache, place, tmp_path, plant):
    os.makedirs(os.path.dirname(path_of(place)), exist_ok=True)
    target = tmp_path / "target"
    target.write_bytes(b"content")
    if plant == "link":
        os.symlink(target, path_of(place))
    elif plant == "folder":
        os.mkdir(path_of(place))
    else:
        os.mkfifo(path_of(place))

    assert cache.get_or_set("k", lambda: 1) == 1
    assert target.read_bytes() == b"content"
    os.rmdir(path_of(place)) if plant == "folder" else os.unlink(path_of(place))


def test_ring_is_seen_in_what_others_wrote(place, waiting):
    names = [place._replace(name=digit * 32) for digit in "abc"]
    files = [LockFile(name) for name in names]
    for number, file in enumerate(files):
        file.take()
        file.write(("waits", tuple(names[(number + 1) % 3])))

    assert leads_to(names[0], {names[2]}, waiting) is True
    assert leads_to(names[0], {place}, waiting) is False
    for file in files:
        file.release(())


def test_flight_that_cannot_have_a_file_is_one_of_the_process(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "no space left")

    monkeypatch.setattr(signs, "open_or_make", full)

    assert cache.get_or_set("k", lambda: 1) == 1


def test_flight_lands_once(place):
    one = Flight(place)
    future = one.expect()
    one.land(Landing("first"))
    one.land(Landing("second"))

    assert future.result(0) == Landing("first")


def test_waiter_that_left_does_not_disturb_the_landing(place):
    one = Flight(place)
    left, stays = one.expect(), one.expect()
    left.cancel()
    one.land(Landing(1))

    assert stays.result(0) == Landing(1)


def test_flight_that_is_given_up_is_taken_over(place, waiting):
    first = run(flight.take_off_at_once(place, waiting, shared=LockFile))
    assert run(flight.take_off_at_once(place, waiting, shared=LockFile)) is None
    threading.Timer(0, first.land, [None]).start()
    second = run(flight.take_off(place, waiting, 60, shared=LockFile))

    assert isinstance(second, Flight)
    assert second is not first
    second.land(Landing(1))


def test_forked_child_leaves_the_lock_to_its_parent(place, waiting):
    led = run(flight.take_off_at_once(place, waiting, shared=LockFile))
    child = os.fork()
    if child == 0:
        led.land(Landing(1))
        is_free = LockFile(place).take() is True
        os._exit(len(flight._flights) * 2 + is_free)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    other = LockFile(place)
    assert other.take() is False
    other.close()
    led.land(Landing(1))


def test_caches_with_another_directory_do_not_wait_for_each_other(make_cache, tmp_path):
    one, two = make_cache(), make_cache(tmp_path / "other")

    assert one.get_or_set("k", lambda: two.get_or_set("k", lambda: 1)) == 1


def test_ring_over_two_caches_comes_to_an_end(make_cache, tmp_path):
    one, two = make_cache(), make_cache(tmp_path / "other")
    both = threading.Barrier(2)
    found = []

    def ask(mine, other):
        def func():
            both.wait(60)
            return other.get_or_set("k", lambda: "ring")

        found.append(mine.get_or_set("k", func))

    threads = [threading.Thread(target=ask, args=pair) for pair in [(one, two), (two, one)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert found == ["ring", "ring"]


@pytest.mark.parametrize(
    ("exc", "again"),
    [
        (ValueError("a", 1), ValueError),
        (KeyError("k"), KeyError),
        (OSError(2, "missing"), FileNotFoundError),
        (StopIteration(5), StopIteration),
        (TooLargeError("x"), TooLargeError),
        (RecursiveLoaderError("x"), RecursiveLoaderError),
        (LoaderError("a.B", "text"), LoaderError),
        (OwnError("x"), LoaderError),
        (ValueError(object()), LoaderError),
        (ValueError("x" * 5000), LoaderError),
    ],
)
def test_failure_comes_back_as_what_it_may_be(exc, again):
    failure = Failure.parsed(plain.loads(plain.dumps(tuple(Failure.of(exc)))))
    revived = failure.revived((), "note")

    assert type(revived) is again
    assert len(failure.text) <= 1000


def test_failure_of_a_class_that_is_named_is_of_that_class():
    assert type(Failure.of(OwnError("x")).revived([OwnError], "n")) is OwnError


def test_failure_whose_text_cannot_be_had_has_none():
    class OddError(Exception):
        def __str__(self):
            raise ZeroDivisionError

    assert Failure.of(OddError()).text == "(no text)"


def test_run_refuses_steps_that_are_suspended():
    class Suspended:
        def __await__(self):
            yield

    async def steps():
        await Suspended()

    with pytest.raises(RuntimeError, match="suspended"):
        run(steps())


def test_flights_beyond_a_part_of_the_descriptors_have_no_files(cache, monkeypatch):
    monkeypatch.setattr(host, "spare_descriptors", lambda: 5)
    seen = []

    def squares(keys):
        seen.append((len(keys), len(signs._open_files)))
        return {key: key * key for key in keys}

    found = cache.get_or_set_many(range(20), squares)

    assert (len(found), seen) == (20, [(20, 5)])
    assert (signs._open_files, flight._flights) == (set(), {})


def test_spare_descriptors_are_a_quarter_of_those_there_may_be(monkeypatch):
    resource = pytest.importorskip("resource")
    for most, spare in [(1024, 256), (resource.RLIM_INFINITY, sys.maxsize)]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, most=most: (most, most))

        assert host.spare_descriptors() == spare


def test_failure_whose_class_cannot_be_made_of_its_text_is_told_as_loader_error():
    class RefusedError(Exception):
        def __init__(self, response):
            super().__init__(f"status {response.status}")

    failure = Failure(f"{__name__}.{RefusedError.__qualname__}", ("status 404",), "status 404")

    revived = failure.revived([RefusedError], "note")

    assert (type(revived), "status 404" in str(revived)) == (LoaderError, True)


@pytest.fixture
def full(cache, monkeypatch):
    """Have the disk full for what is written about failures."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    def fill():
        monkeypatch.setattr(cache._engine, "put", refuse)
        monkeypatch.setattr(cache._engine, "hold_off", refuse)

    return fill


def fail():
    raise OwnError("mine")


def test_failure_that_cannot_be_remembered_is_raised_itself(cache, full, caplog):
    full()

    with pytest.raises(OwnError, match="mine"):
        cache.get_or_set("k", fail, errors={OwnError: 5})

    assert "the failure of 'k' was not remembered: OSError" in caplog.text


def test_value_in_grace_is_served_where_backoff_cannot_be_noted(cache, clock, full, caplog):
    cache.set("k", "old", expire=1, grace=60)
    clock.advance(2)
    full()

    assert cache.get_or_set("k", fail, grace=60, backoff=5) == "old"
    assert "was not remembered: OSError" in caplog.text


@pytest.mark.parametrize("name", ["lock_timeout", "soft_timeout", "hard_timeout"])
def test_limit_of_time_that_is_no_number_is_refused_at_once(cache, name):
    with pytest.raises(TypeError, match=f"{name} must be a number of seconds, or None: got"):
        cache.memoize(grace=1, **{name: timedelta(seconds=1)})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("grace", "60"), ("backoff", "5"), ("refresh", "0.8"), ("jitter", "0.1"),
        ("errors", [KeyError]), ("errors", KeyError), ("errors", {KeyError: "5"}),
    ],
)  # fmt: skip
def test_option_of_another_type_is_refused_at_once(cache, option, value):
    with pytest.raises(TypeError, match=rf"{option}.* must be a .*: got"):
        cache.memoize(**{"expire": 9, "grace": 1, option: value})


@pytest.mark.parametrize("option", ["when", "expire"])
def test_option_that_nobody_would_await_is_refused_at_once(cache, option):
    async def judge(value):
        return value

    with pytest.raises(TypeError, match=f"{option} must be called, not awaited"):
        cache.get_or_set("k", lambda: 1, **{option: judge})
    assert "k" not in cache


def test_expire_that_is_no_duration_is_refused_before_the_function_is_called(cache):
    with pytest.raises(TypeError, match=r"expire must be a number of seconds.*got '60'"):
        cache.memoize(expire="60")
    with pytest.raises(TypeError, match="expire must be a number of seconds"):
        cache.get_or_set("k", lambda: 1 / 0, expire="60")


def test_computation_for_which_there_is_no_thread_says_so(cache, monkeypatch):
    monkeypatch.setattr("diskcache.computing.ways.background", Background(0))

    with pytest.raises(LoaderTimeoutError, match=r"none of the threads .* was free"):
        cache.get_or_set("k", lambda: 1, hard_timeout=0.01)

    assert flight._flights == {}


def test_refresh_that_fails_is_not_counted_as_one(cache, clock):
    answers = iter([1, ValueError("no answer")])

    @cache.memoize(expire=10, refresh=0.5)
    def source():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source()
    clock.advance(6)
    source()
    for thread in threading.enumerate():
        if thread.name.startswith("refreshing"):
            thread.join()

    assert source.cache_info() == (1, 1, 0, 0, 1)


def test_refresh_that_fails_leaves_the_function_alone_as_backoff_says(cache, clock):
    calls = []

    @cache.memoize(expire=100, refresh=0.5, grace=600, backoff=30)
    def source():
        calls.append(clock.time())
        return 1 if len(calls) == 1 else 1 / 0

    source()
    counts = []
    # Refreshed; left alone; refreshed; left alone, also when it has expired; computed.
    for seconds in (60, 10, 19, 2, 20, 11):
        clock.advance(seconds)
        assert source() == 1
        until_landed()
        counts.append(len(calls))

    assert counts == [2, 2, 2, 3, 3, 4]


def test_clock_that_is_set_back_makes_no_backoff_longer(cache, clock, monkeypatch):
    monkeypatch.setattr(steps, "RESTING", 2)
    calls = []

    @cache.memoize(expire=5000, refresh=0.1, grace=600, backoff=30)
    def source(number):
        calls.append(number)
        return 1 if calls.count(number) == 1 else 1 / 0

    assert [source(number) for number in (1, 2, 3)] == [1, 1, 1]
    clock.advance(4000)
    for number in (1, 2, 3, 3):
        source(number)
        until_landed()
    assert calls == [1, 2, 3, 1, 2, 3]
    assert len(steps._resting) <= 2

    clock.advance(-1000)
    source(3)
    until_landed()
    assert calls.count(3) == 3


@pytest.fixture
def writes(cache, monkeypatch):
    """The names of the writing calls that an engine got, one for each transaction."""
    kind, names = type(cache._engine), []
    for name in ("put", "put_many"):
        bare = getattr(kind, name)

        def counted(self, *args, _name=name, _bare=bare):
            names.append(_name)
            return _bare(self, *args)

        monkeypatch.setattr(kind, name, counted)
    return names


def test_values_of_many_keys_are_stored_in_one_transaction(cache, writes):
    cache.get_or_set_many(range(50), lambda keys: {key: -key for key in keys}, expire=60)

    assert writes == ["put_many"]
    assert cache.get_many(range(50)) == {key: -key for key in range(50)}


def test_values_of_many_keys_without_a_server_are_returned_with_one_warning(
    cache, writes, monkeypatch, caplog
):
    def put_many(*_):
        raise ServerUnavailableError("nobody there")

    monkeypatch.setattr(type(cache._engine), "put_many", put_many)

    assert len(cache.get_or_set_many(range(50), dict.fromkeys)) == 50
    assert (len(caplog.records), writes) == (1, [])


def test_values_of_many_keys_that_another_one_computes_are_waited_for_once(cache, monkeypatch):
    keys, begun, waited = list(range(50)), threading.Event(), []
    take_off = flight.take_off

    def counted(*args, **keywords):
        waited.append(args)
        return take_off(*args, **keywords)

    monkeypatch.setattr(flight, "take_off", counted)

    def func(wanted):
        begun.set()
        until_expected()
        return {key: -key for key in wanted}

    def ask():
        begun.wait(60)
        return cache.get_or_set_many(keys, lambda _: {})

    first, second = in_threads(lambda: cache.get_or_set_many(keys, func), ask)

    assert first == second == {key: -key for key in keys}
    assert len(waited) == 1


def test_many_keys_whose_computation_is_interrupted_are_computed_by_two_calls(cache):
    keys, begun, calls = list(range(50)), threading.Event(), []

    def interrupted(_):
        begun.set()
        until_expected()
        raise KeyboardInterrupt

    def func(wanted):
        calls.append(wanted)
        return {key: -key for key in wanted}

    def lead():
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_set_many(keys, interrupted)

    def ask():
        begun.wait(60)
        return cache.get_or_set_many(keys, func)

    assert in_threads(lead, ask) == [None, {key: -key for key in keys}]
    assert calls == [keys[:1], keys[1:]]


def test_many_keys_are_waited_for_no_longer_than_one(directory):
    begun, go_on = threading.Event(), threading.Event()
    calls = []

    def slow(wanted):
        begun.set()
        assert go_on.wait(60)
        return dict.fromkeys(wanted, "slow")

    def func(wanted):
        calls.append(wanted)
        return dict.fromkeys(wanted, "own")

    with Cache(directory) as cache:

        def ask():
            begun.wait(60)
            try:
                return cache.get_or_set_many("abcd", func, lock_timeout=0.01)
            finally:
                go_on.set()

        both = in_threads(lambda: cache.get_or_set_many("abcd", slow), ask)

    assert both == [dict.fromkeys("abcd", "slow"), dict.fromkeys("abcd", "own")]
    assert calls == [["a"], ["b", "c", "d"]]


def test_values_of_many_keys_are_stored_by_the_set_of_a_subclass(directory):
    class Shouting(Cache):
        def set(self, key, value, expire=None, read=False, tag=None, retry=False):
            return super().set(key, value.upper(), expire, read, tag, retry)

    with Shouting(directory) as cache:
        assert cache.get_or_set_many("ab", lambda keys: {key: key for key in keys})["a"] == "a"
        assert cache.get_many("ab") == {"a": "A", "b": "B"}


@pytest.mark.parametrize("option", ["when", "expire"])
def test_option_that_asks_for_the_value_being_kept_gets_an_error(cache, option):
    def judge(value):
        return cache.get_or_set("k", lambda: value)

    with pytest.raises(RecursiveLoaderError, match="'k' asks for that value itself"):
        cache.get_or_set("k", lambda: 1, **{option: judge})
    with pytest.raises(RecursiveLoaderError, match="'k' asks for that value itself"):
        cache.get_or_set_many(["k"], dict.fromkeys, **{option: judge})

    assert cache.get_or_set("k", lambda: 2) == 2


def test_codec_that_asks_for_the_value_being_kept_gets_an_error(make_cache):
    class Asking:
        def dumps(self, value):
            return json_serializer.dumps(cache.get_or_set("k", lambda: value))

        def loads(self, data):
            return json_serializer.loads(data)

    cache = make_cache(serializer=Asking())

    # It cannot be stored, and is returned all the same.
    assert cache.get_or_set("k", lambda: 1) == 1
    assert cache.get_or_set_many(["k"], lambda _: {"k": 2}) == {"k": 2}
    assert "k" not in cache
