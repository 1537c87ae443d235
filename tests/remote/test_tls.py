"""TLS: a server is believed only if its certificate is signed by the authority that is named."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess

import pytest
import redis.asyncio

from diskcache import ServerUnavailableError, aio, connect
from diskcache.clock import SYSTEM_CLOCK
from diskcache.engines.redis.address import parse
from diskcache.engines.redis.driver import Driver
from tests.support.optional import skip_or_fail
from tests.support.servers import TlsServer, need_server

OPENSSL = shutil.which("openssl")


def openssl(folder, *words):
    subprocess.run([OPENSSL, *words], cwd=folder, check=True, capture_output=True, timeout=60)


def make_authority(folder, name):
    """Make an authority, and a key and a certificate for 127.0.0.1 that it signed."""
    folder.mkdir()
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", f"/CN={name}",
    )  # fmt: skip
    openssl(folder, "req", *curve, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=server")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        folder, "x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", "cert.pem", "-days", "2", "-extfile", "names",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    need_server()
    if OPENSSL is None:
        skip_or_fail("openssl is not installed")
    return make_authority(tmp_path_factory.mktemp("tls") / "authority", "authority")


@pytest.fixture(scope="module")
def server(authority):
    made = TlsServer(authority)
    yield made
    made.remove()


def url(server, **query):
    return server.url("test", **query).replace("redis://", "rediss://")


def test_cache_works_over_tls(server, authority):
    with connect(url(server, ssl_ca_certs=authority / "ca.pem")) as cache:
        cache.set("k", b"x" * 100_000, tag="t", expire=60)
        assert cache.get("k", tag=True) == (b"x" * 100_000, "t")
        assert cache.push("job") == 500_000_000_000_000
        assert cache.get_or_set("computed", lambda: 5) == 5
        assert cache.clear() == 3


def test_client_with_a_certificate_is_let_in_where_one_is_asked_for(authority):
    server = TlsServer(authority, "--tls-auth-clients", "yes")
    try:
        certificate = {"ssl_certfile": authority / "cert.pem", "ssl_keyfile": authority / "key.pem"}
        with connect(url(server, ssl_ca_certs=authority / "ca.pem", **certificate)) as cache:
            cache["k"] = 1
            assert cache["k"] == 1
        with (
            connect(url(server, ssl_ca_certs=authority / "ca.pem"), on_error="miss") as cache,
            pytest.raises(ServerUnavailableError),
        ):
            cache.incr("k")
    finally:
        server.remove()


def refused(address):
    with pytest.raises(ServerUnavailableError) as caught:
        connect(address, timeout=30)
    return str(caught.value)


def test_certificate_of_another_authority_is_refused(server, tmp_path):
    other = make_authority(tmp_path / "other", "another authority")
    message = refused(url(server, ssl_ca_certs=other / "ca.pem"))

    assert "certificate verify failed" in message
    assert "check that ssl_ca_certs names the authority" in message


def test_certificate_that_the_system_does_not_know_is_refused(server):
    assert "certificate verify failed" in refused(url(server))


def test_certificate_of_another_host_is_refused(server, authority):
    address = url(server, ssl_ca_certs=authority / "ca.pem").replace("127.0.0.1", "localhost")

    assert "certificate verify failed" in refused(address)


def test_host_is_not_compared_if_told_so(server, authority):
    address = url(server, ssl_ca_certs=authority / "ca.pem", ssl_check_hostname="false")
    with connect(address.replace("127.0.0.1", "localhost")) as cache:
        cache["k"] = 1
        assert cache.clear() == 1


@pytest.mark.parametrize("query", ["", "&ssl_cert_reqs=required", "&ssl_check_hostname=true"])
@pytest.mark.parametrize("address", ["rediss://h?namespace=n", "rediss+sentinel://h/m?namespace=n"])
@pytest.mark.parametrize("library", [redis, redis.asyncio])
def test_host_is_compared_whatever_the_default_of_the_client_is(address, query, library):
    client = Driver(parse(address + query), 1, SYSTEM_CLOCK)._connect(library)

    assert client.connection_pool.connection_kwargs["ssl_check_hostname"] is True


def test_host_is_not_compared_where_no_certificate_is_asked_for(server):
    with connect(url(server, ssl_cert_reqs="none")) as cache:
        cache["k"] = 1
        assert cache.clear() == 1
    assert awaited(url(server, ssl_cert_reqs="none"))[1] == 3


def test_server_that_speaks_tls_refuses_a_client_that_does_not(server):
    assert "cannot be reached" in refused(server.url())


def test_certificate_that_is_not_there_is_named(server, tmp_path):
    with pytest.raises(OSError, match="missing"):
        connect(url(server, ssl_ca_certs=tmp_path / "missing.pem"))


def awaited(address):
    """Use a cache in an event loop, by one task and by many."""

    async def main():
        async with aio.connect(address, timeout=30) as cache:
            await cache.set("k", b"x" * 100_000, tag="t", expire=60)
            found = await asyncio.gather(*[cache.get("k", tag=True) for _ in range(10)])
            assert await cache.get_or_set("computed", lambda: 5) == 5
            assert await cache.push("job") == 500_000_000_000_000
            assert [key async for key in cache] == ["k", "computed", 500_000_000_000_000]
            return set(found), await cache.clear()

    return asyncio.run(main())


def test_event_loop_works_over_tls(server, authority):
    address = url(server, ssl_ca_certs=authority / "ca.pem")

    assert awaited(address) == ({(b"x" * 100_000, "t")}, 3)


def test_event_loop_reads_the_authorities_once_for_all_connections(server, authority, monkeypatch):
    made, make = [], ssl.create_default_context

    def counted():
        made.append(make())
        return made[-1]

    async def main():
        address = url(server, ssl_ca_certs=authority / "ca.pem")
        async with aio.connect(address, timeout=20, memory_limit=0) as cache:
            await asyncio.gather(*[cache.get(number) for number in range(20)])
            client = cache.sync._engine.driver._looped.of_loop(None)._client
            return len(client.connection_pool._available_connections)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    assert asyncio.run(main()) > 1
    assert len(made) == 1


def test_event_loop_with_a_certificate_is_let_in_where_one_is_asked_for(authority):
    server = TlsServer(authority, "--tls-auth-clients", "yes")
    try:
        certificate = {"ssl_certfile": authority / "cert.pem", "ssl_keyfile": authority / "key.pem"}
        address = url(server, ssl_ca_certs=authority / "ca.pem")
        assert awaited(url(server, ssl_ca_certs=authority / "ca.pem", **certificate))[1] == 3
        with pytest.raises(ServerUnavailableError, match="server"):
            awaited(address)
    finally:
        server.remove()


def refused_in_a_loop(address):
    with pytest.raises(ServerUnavailableError) as caught:
        awaited(address)
    return str(caught.value)


def test_event_loop_refuses_a_certificate_of_another_authority(server, tmp_path):
    other = make_authority(tmp_path / "other", "another authority")
    message = refused_in_a_loop(url(server, ssl_ca_certs=other / "ca.pem"))

    assert "certificate verify failed" in message
    assert "check that ssl_ca_certs names the authority" in message


def test_event_loop_refuses_a_certificate_of_another_host_unless_told_not_to(server, authority):
    address = url(server, ssl_ca_certs=authority / "ca.pem").replace("127.0.0.1", "localhost")

    assert "certificate verify failed" in refused_in_a_loop(address)
    assert awaited(f"{address}&ssl_check_hostname=false")[1] == 3


def test_event_loop_without_tls_is_refused_by_a_server_that_speaks_it(server):
    assert "cannot be reached" in refused_in_a_loop(server.url())


def test_event_loop_names_a_certificate_that_is_not_there(server, tmp_path):
    with pytest.raises(OSError, match="missing"):
        awaited(url(server, ssl_ca_certs=tmp_path / "missing.pem"))
