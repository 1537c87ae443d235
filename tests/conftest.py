"""Fixtures of all tests, and the checks that follow every test of a cache."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize, get_temp_dir
from pathlib import Path
from typing import Any, Final

import pytest

from diskcache.testing import ManualClock, Variant
from tests.support.leaks import assert_tidy, extra_threads, left_open
from tests.support.variants import SQLITE

REMOVAL: Final = pytest.StashKey[Finalize]()
"""Removes the folder of the run."""


def pytest_configure(config: pytest.Config) -> None:
    """Let everything that this run makes lie in one folder, and remove that at the end."""
    fix_examples()
    if hasattr(config, "workerinput"):
        get_temp_dir()
        return
    place = tempfile.mkdtemp(prefix="diskcache-tests-")
    # Some tests become another user.
    os.chmod(place, 0o755)
    os.environ["TMPDIR"] = place
    tempfile.tempdir = None
    # Where it is now is where it is when the process ends: tests put it elsewhere.
    get_temp_dir()
    # After the folders of multiprocessing, and of pytest itself; not in a child that is forked.
    remove = Finalize(None, shutil.rmtree, (place, True), exitpriority=-200)
    config.stash[REMOVAL] = remove


def fix_examples() -> None:
    """Have Hypothesis try the same examples at each run, where it is told to.

    It also tries constants of the modules of a project, as far as they are imported by then: which
    those are depends on the tests that a process has run before.
    """
    try:
        from hypothesis.internal.conjecture import providers
    except ImportError:
        return
    if hasattr(providers, "_get_local_constants"):
        # There is no setting for it.
        none = providers._local_constants
        vars(providers)["_get_local_constants"] = lambda: none


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep what failed tests left, to be looked at, unless nobody is going to."""
    is_kept = session.testsfailed and not os.environ.get("DISKCACHE_CI")
    if is_kept and REMOVAL in session.config.stash:
        session.config.stash[REMOVAL].cancel()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where `cache` lives; not yet there."""
    return tmp_path / "cache"


@pytest.fixture
def variant() -> Variant:
    """How `make_cache` makes a cache; contract suites replace it."""
    return SQLITE


@pytest.fixture
def make_cache(
    request: pytest.FixtureRequest, variant: Variant, clock: ManualClock, directory: Path
) -> Iterator[Callable[..., Any]]:
    """Make caches, by default in `directory` and on `clock`, and check all of them afterwards."""
    made: list[Any] = []
    writable: list[Any] = []

    def make(where: Any = directory, **keywords: Any) -> Any:
        keywords.setdefault("clock", clock)
        cache = variant.make(where, **keywords)
        made.append(cache)
        if not keywords.get("readonly"):
            writable.append(cache)
        return cache

    yield make
    damaged = request.node.get_closest_marker("damaged") is not None
    found = [] if damaged else findings_of(writable)
    for cache in made:
        cache.close()

    assert found == []
    assert_left_clean({Path(cache.directory) for cache in made}, damaged=damaged)


@pytest.fixture
def cache(make_cache: Callable[..., Any]) -> Any:
    """An empty cache with default settings."""
    return make_cache()


@pytest.fixture(scope="session")
def state_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the key of this test run lies, instead of the key of the user."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, state_directory: Path) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("DISKCACHE_")]:
        if name != "DISKCACHE_CI":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(state_directory))


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No read and no write looks at the path again because it took too long to come to it.

    For tests of what is done where nobody has to look: a machine may be held up for longer.
    """
    from diskcache.engines.sqlite import control, session

    monkeypatch.setattr(session, "LOOK_EVERY", 1e6)
    monkeypatch.setattr(control, "LEASE", 1e6)


@pytest.fixture(autouse=True)
def no_extra_threads() -> Iterator[None]:
    """Fail a test that leaves threads running."""
    before = set(threading.enumerate())
    yield

    assert extra_threads(before) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Where everything must be there, fail a test that is skipped for want of a package."""
    report = yield
    if (
        report.skipped
        and os.environ.get("DISKCACHE_CI")
        and "could not import" in str(call.excinfo)
    ):
        report.outcome = "failed"
        report.longrepr = f"{call.excinfo} (and DISKCACHE_CI is set)"
    return report


def findings_of(caches: list[Any]) -> list[str]:
    """Return what is wrong in the caches' own view; directories that are gone are sound."""
    latest = {cache.directory: cache for cache in caches}
    return [
        str(finding.message)
        for where, cache in latest.items()
        if "://" in where or all(Path(part, "cache.db").exists() for part in parts_of(Path(where)))
        for finding in cache.check()
    ]


def assert_left_clean(directories: set[Path], *, damaged: bool) -> None:
    """Fail if closed caches left anything that they should not."""
    for where in directories:
        assert left_open(where) == []
        for part in parts_of(where):
            if not damaged and (part / "cache.db").exists():
                assert_tidy(part)


def parts_of(where: Path) -> list[Path]:
    """Return the directories of a cache: its shards, or the only one."""
    return sorted(where.glob("[0-9][0-9][0-9]")) or [where]
