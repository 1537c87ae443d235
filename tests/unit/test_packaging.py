"""The distribution builds, installs into an empty environment, and starts quickly."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import diskcache
from tests.support.optional import skip_or_fail

ROOT = Path(__file__).resolve().parents[2]
IMPORT_LIMIT = 0.060
"""Seconds that a process may work which only imports the package, interpreter included."""

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]


def run(*command: str | Path, **keywords) -> str:
    """Run a command away from the checkout and return its output."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environment,
        **keywords,
    )

    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with a fresh wheel and sdist."""
    try:
        import build  # noqa: F401
        import hatchling  # noqa: F401
    except ImportError:
        skip_or_fail("build and hatchling are not installed")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(request, built, tmp_path_factory) -> Path:
    """The interpreter of an environment that holds nothing but the installed distribution."""
    (package,) = built.glob("*.whl" if request.param == "wheel" else "*.tar.gz")
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", package, cwd=folder)
    return python


def test_version_is_the_same_everywhere(built):
    version = diskcache.__version__

    assert {path.name for path in built.iterdir()} == {
        f"diskcache-{version}-py3-none-any.whl",
        f"diskcache-{version}.tar.gz",
    }


def test_wheel_holds_the_package_alone(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if name.startswith("diskcache/")}
    expected = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "diskcache").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert "diskcache/py.typed" in inside
    assert inside == expected
    assert all(".dist-info/" in name for name in names if name not in inside)


def test_wheel_metadata_is_complete(built):
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(metadata.get_all("Provides-Extra"))

    assert metadata["Name"] == "diskcache"
    assert metadata["Version"] == diskcache.__version__
    assert metadata["License-Expression"] == diskcache.__license__
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.15"}
    assert extras == set(project["optional-dependencies"])
    assert {
        line.partition(">")[0]
        for line in metadata.get_all("Requires-Dist")
        if "extra ==" not in line
    } == {"apsw", "ormsgpack"}
    assert metadata.get_payload().strip(), "the page of the package has no text"


def test_requirement_is_what_the_codec_asks_for():
    from diskcache.codecs.plain_ext import NEEDED_LIBRARY

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = ".".join(map(str, NEEDED_LIBRARY))

    assert f"ormsgpack>={needed}" in project["dependencies"]


def test_sdist_holds_what_is_needed_to_build_and_test(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert names >= {
        "LICENSE",
        "Makefile",
        "README.md",
        "pyproject.toml",
        "src/diskcache/__init__.py",
        "src/diskcache/py.typed",
        "tests/conftest.py",
        "tests/contract/test_sqlite.py",
    }
    assert not any(part in name for name in names for part in ("__pycache__", ".venv", ".git/"))


def test_installed_package_works(installed, tmp_path):
    program = (
        "import diskcache\n"
        "with diskcache.Cache('cache') as cache:\n"
        "    cache.set('a', {'b': [1, 2.5, None]}, tag='t')\n"
        "    cache['large'] = b'x' * 100_000\n"
        "with diskcache.Cache('cache') as cache:\n"
        "    assert cache.get('a', tag=True) == ({'b': [1, 2.5, None]}, 't')\n"
        "    assert cache['large'] == b'x' * 100_000\n"
        "    assert cache.check() == []\n"
        "print(diskcache.__version__, diskcache.__file__)\n"
    )
    version, where = run(installed, "-W", "error", "-c", program, cwd=tmp_path).split()

    assert version == diskcache.__version__
    assert str(ROOT) not in where


def test_installed_command_runs(installed, tmp_path):
    script = installed.with_name("diskcache.exe" if os.name == "nt" else "diskcache")

    assert "info" in run(script, "--help", cwd=tmp_path)
    assert "info" in run(installed, "-m", "diskcache", "--help", cwd=tmp_path)


def test_import_is_quick_and_brings_nothing_heavy(installed, tmp_path):
    # The time of the process, which begins before that of the interpreter: a machine may be busy
    # with something else. That slows the caches down, too, so the quickest of many starts counts.
    program = "import time, sys, diskcache; print(time.process_time(), *sys.modules)"
    best, modules = float("inf"), set()
    deadline = time.monotonic() + 60
    while best >= IMPORT_LIMIT and time.monotonic() < deadline:
        taken, *names = run(installed, "-c", program, cwd=tmp_path).split()
        best = min(best, float(taken))
        modules = {name.partition(".")[0] for name in names}

    assert "diskcache" in modules
    assert modules & {"apsw", "asyncio", "django", "redis", "sqlite3", "ormsgpack"} == set()
    assert best < IMPORT_LIMIT
