"""What is sent is what redis-py would send, and connections go back where they belong."""

from __future__ import annotations

import random

import pytest
import redis
from redis import exceptions as theirs

from diskcache.engines.redis.wire import LARGE, Wire, packed, sender


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


@pytest.mark.parametrize("failure", [theirs.ResponseError("no"), KeyboardInterrupt()])
def test_connection_of_an_exchange_that_failed_goes_back_to_the_pool(failure):
    pool = Pool()
    wire = Wire(pool, 8)
    wire.send("GET", b"a")
    pool.made[0].answers.append(failure)
    with pytest.raises(type(failure)):
        wire.send("GET", b"a")

    assert pool.back == pool.made


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
