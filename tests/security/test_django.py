"""A pickle that an attacker planted is not loaded through `DjangoCache`, by whichever method."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("django")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.project.settings")

import django
from django.test import override_settings

django.setup()

from diskcache import DjangoCache  # noqa: E402 - it needs the settings
from diskcache.sentinels import ENOVAL  # noqa: E402
from tests.django.conftest import end_threads  # noqa: E402
from tests.security import hostile, paths  # noqa: E402

pytestmark = pytest.mark.usefixtures("quiet")

FORMS = {
    "protocol 5": 4,
    "with a signature of ones": 4,
    "guard": 4 | 64,
    "compressed": 4 | 16,
    "of a key": 5,
}
MEMO = ":1:" + str(paths.MEMO)


@pytest.fixture
def template(tmp_path):
    """Return a function that makes a directory in which payloads of a form are planted."""

    def made(form, marker):
        directory = tmp_path / "template"
        shutil.rmtree(directory, ignore_errors=True)
        opened(directory).close()
        payloads = hostile.payloads(marker)
        data = payloads.get(form, payloads["protocol 5"])
        for shard in ("000", "001"):
            for key in (f":1:{paths.KEY}", f":2:{paths.KEY}", MEMO):
                row = {"key": key, "mode": FORMS[form], "value": data, "tag": paths.TAG}
                hostile.insert(directory / shard, **row)
        return directory

    return made


def opened(directory, **options):
    return DjangoCache(directory, {"SHARDS": 2, "OPTIONS": {"KEEP_OPEN": False, **options}})


def test_every_method_has_an_attack():
    own = paths.methods(DjangoCache, "django")
    covered = paths.covered(paths.DJANGO)
    asynchronous = {f"a{name}" for name in covered}

    assert own - covered - asynchronous - paths.NO_CASE == set()
    assert covered - own == set()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", [lambda cache: cache, paths.OffLoop], ids=["here", "off the loop"])
def test_value_is_not_loaded_by_django(tmp_path, marker, template, form, way):
    planted = template(form, marker)
    backends = []
    for number, case in enumerate(paths.DJANGO.values()):
        directory = tmp_path / f"site {number}"
        shutil.copytree(planted, directory)
        backends.append(opened(directory))
        hostile.attempt(lambda case=case, cache=backends[-1]: case(way(cache)))
    for backend in backends:
        backend._shared.cache.close()
        end_threads(backend._shared.cache)

    assert not marker.exists()


def test_value_is_a_miss_of_django_and_counted(marker, template):
    backend = opened(template("protocol 5", marker))

    assert backend.get(paths.KEY, "missing") == "missing"
    assert backend.get_many([paths.KEY]) == {}
    assert backend.info().untrusted > 0
    backend._shared.cache.close()
    assert not marker.exists()


def test_value_of_another_project_is_a_miss(tmp_path):
    backend = opened(tmp_path / "cache")
    backend.set("object", Path("x"))
    assert backend.get("object") == Path("x")
    backend._shared.cache.close()
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")

    with override_settings(SECRET_KEY="of another project, long enough for a key"):
        other = opened(tmp_path / "copy")
        assert other.get("object", "missing") == "missing"
        other._shared.cache.close()


def test_site_that_trusts_everything_would_load_it(marker, template):
    """What is planted really is what a reader without protection loads."""
    backend = opened(template("protocol 5", marker), pickle="unsafe")

    assert backend.get(paths.KEY, ENOVAL) == "executed"
    backend._shared.cache.close()
    assert marker.exists()
