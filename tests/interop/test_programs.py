"""requests, httpx, redis-py and asyncio, unmodified, against real servers."""

from __future__ import annotations

import json
import sys

import pytest

from tests.helpers import servers
from tests.helpers.servers import Blob, Certificate, Program, Web
from tests.interop.launch import APPS, LO, Place

CONNECTIONS = 1000
ECHO_PORT = 7007


@pytest.mark.servers("nginx")
def test_requests(usernet: Place, web: Web, small: Blob) -> None:
    out = json.loads(usernet.run("requests_get.py", web.url(small.path.name, usernet.peer)))
    assert out == {"sha256": [small.sha256], "refused": 405}


@pytest.mark.servers("nginx")
def test_requests_over_tls(
    ordinary: Place, web: Web, small: Blob, certificate: Certificate
) -> None:
    url = web.tls_url(small.path.name, ordinary.peer)
    out = json.loads(ordinary.run("requests_get.py", url, str(certificate.authority)))
    assert out == {"sha256": [small.sha256], "refused": 405}


@pytest.mark.servers("nginx")
def test_requests_refuses_an_unknown_authority(usernet: Place, web: Web, small: Blob) -> None:
    out = usernet.run("requests_untrusted.py", web.tls_url(small.path.name, usernet.peer))
    assert out.split() == ["refused"]


@pytest.mark.servers("nginx")
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_httpx(usernet: Place, web: Web, small: Blob, certificate: Certificate, tls: bool) -> None:
    name = small.path.name
    if tls:
        url = web.tls_url(name, usernet.peer)
        out = usernet.run("httpx_get.py", url, str(certificate.authority))
    else:
        out = usernet.run("httpx_get.py", web.url(name, usernet.peer))
    assert json.loads(out) == {"sha256": [small.sha256]}


REDIS_TOUR = {
    "same": True, "stored": 10_000, "in_order": True, "heard": True, "popped": "late",
    "counted": 5050,
}  # fmt: skip


@pytest.mark.servers("redis-server")
def test_redis(usernet: Place, redis_port: int) -> None:
    out = json.loads(usernet.run("redis_tour.py", usernet.peer, str(redis_port)))
    assert out == REDIS_TOUR


@pytest.mark.root
@pytest.mark.servers("redis-server")
def test_redis_over_a_cable(
    over_af_packet: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = over_af_packet
    with servers.redis(
        tmp_path_factory.mktemp("redis"), host=place.peer, prefix=place.peer_prefix
    ) as port:
        out = json.loads(place.run("redis_tour.py", place.peer, str(port)))
    assert out == REDIS_TOUR


def test_asyncio_echo_on_the_loopback() -> None:
    assert LO.run("asyncio_echo.py", "both", "127.0.0.1", str(CONNECTIONS)).split() == [
        str(CONNECTIONS)
    ]


@pytest.mark.root
def test_asyncio_echo_clients_of_a_kernel_server(over_af_packet: Place) -> None:
    place = over_af_packet
    echo = [sys.executable, str(APPS / "asyncio_echo.py")]
    with Program(*place.peer_prefix, *echo, "serve", place.peer, str(ECHO_PORT)) as server:
        server.wait_for("serving")
        out = place.run("asyncio_echo.py", "clients", place.peer, str(ECHO_PORT), str(CONNECTIONS))
    assert out.split() == [str(CONNECTIONS)]


@pytest.mark.root
def test_asyncio_echo_server_for_kernel_clients(over_af_packet: Place) -> None:
    place = over_af_packet
    echo = [sys.executable, str(APPS / "asyncio_echo.py")]
    with place.start("asyncio_echo.py", "serve", place.own, str(ECHO_PORT)) as server:
        server.wait_for("serving")
        with Program(
            *place.peer_prefix, *echo, "clients", place.own, str(ECHO_PORT), str(CONNECTIONS)
        ) as clients:
            assert clients.wait(45) == 0, clients.output + server.output
            assert clients.output.split() == [str(CONNECTIONS)]


def test_asyncio_echo_clients_of_the_host(ordinary: Place) -> None:
    """Through the embedded gateway: as many of the host's sockets."""
    port = servers.free_port()
    echo = [sys.executable, str(APPS / "asyncio_echo.py")]
    with Program(*echo, "serve", "127.0.0.1", str(port)) as server:
        server.wait_for("serving")
        out = ordinary.run("asyncio_echo.py", "clients", ordinary.peer, str(port), str(CONNECTIONS))
    assert out.split() == [str(CONNECTIONS)]


def test_asyncio_tour(usernet: Place, certificate: Certificate) -> None:
    """TLS, sendfile, datagrams and the loop's socket calls, on the stack's loopback."""
    out = usernet.run("asyncio_tour.py", str(certificate.chain), str(certificate.authority))
    assert json.loads(out) == {
        "tls": 50, "sendfile": True, "datagrams": 200, "calls": "through the loop",
    }  # fmt: skip


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(backend: str) -> None:
    assert LO.run("anyio_echo.py", backend).split() == ["100"]
