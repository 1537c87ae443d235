"""An entry that this process cannot decode stays, for one that can."""

from __future__ import annotations

import pytest

from diskcache import CodecError


class Moody:
    """An object that loads only while its class allows it."""

    may_load = True

    def __setstate__(self, state):
        if not Moody.may_load:
            raise RuntimeError("not today")

    def __getstate__(self):
        return {"a": 1}


@pytest.mark.parametrize("method", ["pull", "peek", "peekitem"])
def test_end_of_a_queue_raises_and_stays(cache, monkeypatch, method):
    key = cache.push(Moody())
    monkeypatch.setattr(Moody, "may_load", False)
    with pytest.raises(CodecError):
        getattr(cache, method)()
    monkeypatch.setattr(Moody, "may_load", True)

    assert isinstance(cache[key], Moody)


def test_pop_misses_and_keeps_the_entry(cache, monkeypatch):
    cache["k"] = Moody()
    monkeypatch.setattr(Moody, "may_load", False)

    assert cache.pop("k", "default") == "default"
    assert "k" in cache
    assert cache.info().corrupt == 1
