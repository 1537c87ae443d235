"""A site that caches with `DjangoCache`: sessions, pages, fragments, models, in one process."""

from __future__ import annotations

import shutil

import pytest
from django.core.cache import cache, caches
from django.core.management import call_command
from django.db import connection, connections
from django.http import HttpResponse
from django.template.response import ContentNotRenderedError, TemplateResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from tests.django.project import views
from tests.django.shelf.models import Book


@pytest.fixture(scope="module")
def database():
    """Tables in memory, with two books."""
    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    connection.close()
    connections.databases["default"].update(connections.configure_settings(databases)["default"])
    call_command("migrate", run_syncdb=True, verbosity=0)
    Book.objects.create(title="Emma", pages=474)
    Book.objects.create(title="Dune", pages=412)
    yield
    connection.close()


@pytest.fixture
def client(site):
    return Client()


def test_count_goes_on_from_request_to_request(client):
    assert [client.get("/count/").content for _ in range(3)] == [b"1", b"2", b"3"]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_session_is_kept_between_requests(site, client, engine):
    site(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}")

    assert [client.get("/visits/").content for _ in range(3)] == [b"1", b"2", b"3"]
    assert Client().get("/visits/").content == b"1"


@pytest.mark.usefixtures("database")
def test_session_of_cached_db_outlives_the_cache(site, client):
    site(SESSION_ENGINE="django.contrib.sessions.backends.cached_db")
    client.get("/visits/")
    cache.clear()

    assert client.get("/visits/").content == b"2"


def test_session_of_cache_is_read_after_a_restart(site, client):
    client.get("/visits/")
    site()

    assert client.get("/visits/").content == b"2"


def test_session_ends_with_its_cache_entry(site, client):
    client.get("/visits/")
    caches["default"].clear()

    assert client.get("/visits/").content == b"1"


def test_page_is_rendered_once(client):
    first, second = client.get("/page/"), client.get("/page/")

    assert second.content == first.content
    assert second["X-Rendered"] == "yes"
    assert second["Expires"] == first["Expires"]
    assert second.cookies["flavour"].value == "plain"
    assert client.get("/plain/").content != first.content
    assert client.get("/page/?other=1").content != first.content


@pytest.mark.usefixtures("database")
def test_fragment_is_rendered_once_for_each_user(client):
    before = next(views.rendered)

    assert client.get("/fragment/ada/").content == b"<b>Dune</b><b>Emma</b>"
    assert client.get("/fragment/ada/").content == b"<b>Dune</b><b>Emma</b>"
    assert client.get("/fragment/bob/").content == b"<b>Dune</b><b>Emma</b>"
    assert next(views.rendered) == before + 3


@pytest.mark.usefixtures("database")
def test_queryset_of_a_view_is_cached(client):
    assert client.get("/books/").json() == ["Dune", "Emma"]
    extra = Book.objects.create(title="Zadig")
    try:
        assert client.get("/books/").json() == ["Dune", "Emma"]
    finally:
        extra.delete()


@pytest.mark.usefixtures("database", "site")
def test_model_instance_comes_back_equal():
    book = Book.objects.get(title="Emma")
    cache.set("book", book)

    found = cache.get("book")
    assert found == book
    assert (found.title, found.pages, found._state.adding) == ("Emma", 474, False)


@pytest.mark.usefixtures("database", "site")
def test_queryset_is_evaluated_when_it_is_stored():
    cache.set("books", Book.objects.filter(pages__gt=450))
    cache.set("deferred", Book.objects.defer("pages").get(title="Dune"))

    with CaptureQueriesContext(connection) as queries:
        assert [book.title for book in cache.get("books")] == ["Emma"]
    assert len(queries) == 0
    assert cache.get("deferred").pages == 412


@pytest.mark.usefixtures("site")
def test_response_comes_back_with_headers_and_cookies():
    response = HttpResponse("text", status=203, headers={"X-Own": "1"})
    response.set_cookie("a", "b")
    cache.set("response", response)

    found = cache.get("response")
    assert (found.status_code, found.content, found["X-Own"]) == (203, b"text", "1")
    assert found.cookies["a"].value == "b"


@pytest.mark.usefixtures("site")
def test_template_response_is_refused_until_it_is_rendered():
    response = TemplateResponse(
        RequestFactory().get("/"), "fragment.html", {"titles": ["A"], "user": "x"}
    )
    with pytest.raises(ContentNotRenderedError):
        cache.set("response", response)
    response.render()
    cache.set("response", response)

    assert cache.get("response").content == b"<b>A</b>"


@pytest.mark.parametrize("keep", [True, False])
def test_end_of_a_request_leaves_connections_or_closes_them(client, site, keep):
    site({"KEEP_OPEN": keep})
    client.get("/count/")
    engines = [shard._engine for shard in caches["default"]._cache._shards]

    assert any(engine._local.link is not None for engine in engines) is keep


def test_site_goes_on_when_its_cache_directory_is_removed(client, directory):
    client.get("/count/")
    shutil.rmtree(directory)
    caches["default"].close()

    assert client.get("/count/").content == b"1"


def test_media_names_the_file_or_is_not_found(client, directory):
    cache.set("notes", b"n" * 50_000)

    assert client.get("/media/notes")["X-Accel-Redirect"].startswith(str(directory))
    assert client.get("/media/missing").status_code == 404
