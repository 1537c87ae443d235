"""Sentinels: the cache finds the master that they name, also after another one took its place."""

from __future__ import annotations

import time

import pytest

from diskcache import DiskCacheError, ServerUnavailableError, connect
from tests.support.sentinel import Watched
from tests.support.servers import need_server


@pytest.fixture
def watched():
    need_server()
    made = Watched()
    yield made
    made.remove()


def test_cache_goes_on_with_the_replica_that_sentinels_choose(watched):
    with connect(watched.url("test"), timeout=5) as cache:
        cache.set_many({number: number for number in range(100)}, tag="t")
        assert cache.push("job", prefix="jobs") == "jobs-500000000000000"
        watched.master.client().execute_command("WAIT", 1, 5000)
        watched.master.stop()
        wrong, done = [], None
        deadline = time.monotonic() + 60
        while done is None and time.monotonic() < deadline:
            try:
                done = cache.incr("after"), cache.get_many(range(100))
            except ServerUnavailableError:
                time.sleep(0.05)
            except DiskCacheError as exc:
                wrong.append(exc)
                time.sleep(0.05)

        assert done == (1, {number: number for number in range(100)})
        assert [type(exc).__name__ for exc in wrong if "replica" not in str(exc)] == []
        assert cache.pull(prefix="jobs") == ("jobs-500000000000000", "job")
        assert cache.evict("t") == 100
        assert watched.replica.client().info("replication")["role"] == "master"


def test_master_that_no_sentinel_knows_is_named(watched):
    with pytest.raises(ServerUnavailableError, match="No master found") as caught:
        connect(watched.url("test").replace("/watched", "/unknown"), timeout=1)
    assert "cannot be reached" in str(caught.value)


def test_sentinel_that_is_away_is_passed_over(watched):
    address = watched.url("test").replace("//", "//127.0.0.1:1,")
    with connect(address, timeout=5) as cache:
        cache["k"] = 1
        assert cache["k"] == 1
