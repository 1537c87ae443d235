"""Caches on the private server of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from diskcache.testing import Variant
from tests.support.servers import Server, need_server
from tests.support.variants import REMOTE


@pytest.fixture
def variant() -> Variant:
    need_server()
    return REMOTE


@pytest.fixture
def remote(make_cache: Callable[..., Any]) -> Any:
    """An empty cache on the server, whose time is that of the server."""
    return make_cache(clock=None)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server of this test alone, which may be stopped."""
    need_server()
    made = Server()
    yield made
    made.remove()
