"""What is sent is what redis-py would send, and connections go back where they belong."""

from __future__ import annotations

import random
import threading
import time

import pytest
import redis
from redis import exceptions as theirs

from diskcache.engines.redis.protocol import LARGE, packed
from diskcache.engines.redis.wire import Turns, Wire, sender, turns_of


def words(seed):
    """Return a command of words of all kinds and lengths."""
    rng = random.Random(seed)
    kinds = [
        lambda: rng.randbytes(rng.choice([0, 1, 50, LARGE - 1, LARGE, 3 * LARGE])),
        lambda: "wörter" * rng.randrange(5),
        lambda: rng.randrange(-(10**12), 10**12),
    ]
    return ("EVALSHA", *(rng.choice(kinds)() for _ in range(rng.randrange(30))))


@pytest.mark.parametrize("seed", range(30))
def test_packed_is_what_redis_py_packs(seed):
    theirs_ = redis.Connection().pack_command(*words(seed))

    assert b"".join(packed(words(seed))) == b"".join(theirs_)


def test_large_words_are_sent_as_they_are():
    large = b"x" * LARGE
    assert any(piece is large for piece in packed(("SET", "k", large, "PX", 1)))


class Connection:
    """Answers, fails, or is no longer connected."""

    def __init__(self):
        self.answers, self.is_dropped, self.disconnects = [], False, 0

    def can_read(self):
        if self.is_dropped == "error":
            raise theirs.ConnectionError
        return self.is_dropped

    def disconnect(self):
        self.disconnects += 1
        self.is_dropped = False

    def send_packed_command(self, pieces):
        self.sent = b"".join(pieces)

    def read_response(self):
        answer = self.answers.pop() if self.answers else b"OK"
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Pool:
    """Hands out connections and takes them back."""

    max_connections = 50

    def __init__(self):
        self.made, self.back = [], []

    def get_connection(self, *name):
        self.made.append(Connection())
        return self.made[-1]

    def release(self, connection):
        self.back.append(connection)


def test_connection_stays_at_hand_after_an_answer():
    pool = Pool()
    wire = Wire(pool, 8)

    assert [wire.send("GET", b"a") for _ in range(3)] == [b"OK"] * 3
    assert (len(pool.made), pool.back) == (1, [])


def test_connection_stays_at_hand_after_an_answer_that_is_an_error():
    pool = Pool()
    wire = Wire(pool, 8)
    wire.send("GET", b"a")
    pool.made[0].answers.append(theirs.ResponseError("no"))
    with pytest.raises(theirs.ResponseError):
        wire.send("GET", b"a")

    assert wire.send("GET", b"a") == b"OK"
    assert (len(pool.made), pool.back, pool.made[0].disconnects) == (1, [], 0)


@pytest.mark.parametrize("failure", [theirs.TimeoutError(), KeyboardInterrupt()])
def test_connection_of_an_exchange_that_was_interrupted_holds_no_answer_of_it(failure):
    pool = Pool()
    wire = Wire(pool, 8)
    wire.send("GET", b"a")
    pool.made[0].answers.append(failure)
    with pytest.raises(type(failure)):
        wire.send("GET", b"a")

    assert pool.back == pool.made
    assert pool.made[0].disconnects == 1


@pytest.mark.parametrize("dropped", [True, "error"])
def test_connection_that_was_dropped_meanwhile_connects_anew(dropped):
    pool = Pool()
    wire = Wire(pool, 8)
    wire.send("GET", b"a")
    pool.made[0].is_dropped = dropped

    assert wire.send("GET", b"a") == b"OK"
    assert (len(pool.made), pool.made[0].disconnects) == (1, 1)


def test_none_stays_where_the_pool_must_judge_them():
    pool = Pool()
    wire = Wire(pool, 0)
    wire.send("GET", b"a")

    assert pool.back == pool.made


@pytest.mark.parametrize(("most", "kept"), [(50, 8), (8, 2), (2, 0)])
def test_quarter_of_the_connections_stays_at_most(most, kept):
    pool = redis.BlockingConnectionPool(max_connections=most)

    assert sender(redis.Redis(connection_pool=pool)).__self__._kept == kept


def test_clients_of_clusters_send_by_themselves():
    class Cluster:
        def execute_command(self, *command):
            return command

    assert sender(Cluster())("GET", b"a") == ("GET", b"a")


@pytest.mark.parametrize(("most", "turns"), [(50, 42), (8, 6), (2, 2), (1, 1)])
def test_turns_and_what_is_at_hand_are_as_many_as_connections(most, turns):
    pool = redis.BlockingConnectionPool(max_connections=most)

    assert turns_of(redis.Redis(connection_pool=pool), 99) == turns
    assert turns_of(object(), 99) == 99


def waiting(turns, number):
    """Wait until so many threads wait for their turn."""
    deadline = time.monotonic() + 60
    while len(turns._waiting) < number:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_come_in_their_order_and_nobody_overtakes_them():
    turns, order = Turns(2), []

    def work(name):
        turns.take(60)
        order.append(name)
        turns.give_back()

    turns.take(0)
    turns.take(0)
    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        waiting(turns, number)
    turns.give_back()
    turns.take(60)
    order.append("last")
    turns.give_back()
    for thread in threads:
        thread.join()

    assert order == [0, 1, 2, 3, 4, "last"]
    turns.give_back()
    assert len(turns._free) == 2


def test_turn_that_does_not_come_is_an_error_and_is_lost_to_nobody():
    turns = Turns(1)
    turns.take(0)
    with pytest.raises(theirs.TimeoutError, match=r"in use for 0\.01 seconds"):
        turns.take(0.01)
    turns.give_back()
    turns.take(0)
    turns.give_back()

    assert (turns._free, len(turns._waiting)) == ([True], 0)


def test_many_threads_lose_no_turn():
    turns, inside, most = Turns(3), [], []

    def work():
        for _ in range(300):
            turns.take(60)
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            turns.give_back()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(turns._free), len(turns._waiting), len(most)) == (3, 0, 3600)
    assert max(most) <= 3
