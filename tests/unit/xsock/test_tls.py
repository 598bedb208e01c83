"""TLS over the stack: SSLSocket as it is, fed one record at a time."""

from __future__ import annotations

import os
import select
import socket as std
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from xsock import _ssl
from xsock._socket import socket
from xsock._tls import HEADER, Engine

Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Client's and server's, made before the hook as programs make them."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return client, server


@pytest.fixture(autouse=True)
def hook() -> Iterator[None]:
    undo = _ssl.install(ssl)
    yield
    undo()


def handshake(pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Pair:
    wrapped: list[ssl.SSLSocket] = []
    server = threading.Thread(
        target=lambda: wrapped.append(contexts[1].wrap_socket(pair[1], server_side=True))
    )
    server.start()
    client: Any = contexts[0].wrap_socket(pair[0], server_hostname="localhost")
    server.join()
    return client, wrapped[0]


@pytest.fixture
def tls(pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Pair]:
    client, server = handshake(pair, contexts)
    with client, server:
        yield client, server


def test_it_is_an_sslsocket_without_a_descriptor(tls: Pair) -> None:
    client, server = tls
    assert issubclass(type(client), ssl.SSLSocket)
    assert type(client._sslobj) is Engine
    assert "fd=-1" in repr(client)
    assert client.version() == "TLSv1.3"
    assert client.getpeercert()["subjectAltName"] == (("DNS", "localhost"),)
    client.sendall(b"hello")
    assert server.recv(100) == b"hello"


def test_reading_and_writing_at_once(tls: Pair) -> None:
    client, server = tls
    data = os.urandom(2 << 20)

    def echo() -> None:
        while piece := server.recv(65536):
            server.sendall(piece)

    threads = [threading.Thread(target=echo), threading.Thread(target=client.sendall, args=(data,))]
    for thread in threads:
        thread.start()
    got = bytearray()
    while len(got) < len(data):
        got += client.recv(65536)
    threads[1].join()
    client.shutdown(std.SHUT_WR)
    threads[0].join()
    assert bytes(got) == data


def test_what_openssl_has_not_asked_for_stays_in_the_socket(tls: Pair) -> None:
    client, server = tls
    server.sendall(b"first")
    server.sendall(b"second")
    assert client.recv(100) == b"first"
    # The second record has come, and the socket says so.
    assert select.select([client], [], [], 10)[0] == [client]
    assert client.recv(100) == b"second"


def test_plain_text_after_unwrap(tls: Pair) -> None:
    client, server = tls
    plain: list[Any] = []

    def other() -> None:
        raw = server.unwrap()
        raw.sendall(b"plain text")
        plain.append(raw)

    thread = threading.Thread(target=other)
    thread.start()
    raw = client.unwrap()
    thread.join()
    assert std.socket.recv is not type(raw).recv
    assert raw.recv(100) == b"plain text"


def test_non_blocking(tls: Pair) -> None:
    client, _ = tls
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        client.recv(1)
    blocked = False
    for _ in range(10_000):
        try:
            client.send(bytes(65536))
        except ssl.SSLWantWriteError:
            blocked = True
            break
    assert blocked


def test_timeouts_are_worded_as_the_standards(tls: Pair) -> None:
    client, _ = tls
    client.settimeout(0.01)
    with pytest.raises(TimeoutError, match="The read operation timed out"):
        client.recv(1)


def test_session_tickets_do_not_reset_the_connection(tls: Pair) -> None:
    client, server = tls
    # The server's tickets wait in the client's socket, which never reads.
    assert select.select([client], [], [], 10)[0] == [client]
    client.close()
    assert server.recv(1) == b""


def test_a_ragged_end(tls: Pair) -> None:
    client, server = tls
    client.suppress_ragged_eofs = False
    server.detach_engine = server._sslobj
    server._sslobj = None
    server.close()
    # CPython asks an OpenSSL 3 to take it for an orderly end.
    if client.context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0):
        assert client.recv(1) == b""
    else:
        with pytest.raises(ssl.SSLEOFError):
            client.recv(1)


def test_closing_after_an_end_that_openssl_forgives(
    pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    before = contexts[0].options
    contexts[0].options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    client, server = handshake(pair, contexts)
    contexts[0].options = before
    server._sslobj = None
    server.close()
    client.close()  # reads what came after the handshake, and the end of it
    assert client.fileno() == -1


def test_a_peer_that_does_not_speak_tls(
    pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    client, server = pair
    server.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version"):
        contexts[0].wrap_socket(client, server_hostname="localhost")


def test_an_untrusted_certificate_is_refused_with_an_alert(
    pair: Pair, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    client, server = pair
    failures: list[Exception] = []

    def serve() -> None:
        try:
            contexts[1].wrap_socket(server, server_side=True).recv(1)
        except ssl.SSLError as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(client, server_hostname="localhost")
    thread.join()
    assert "UNKNOWN_CA" in str(failures[0]).upper()


class Recorder:
    """Counts what is taken from the socket under an Engine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        real: Callable[..., bytes] = socket.recv

        def recv(sock: Any, size: int) -> bytes:
            self.sizes.append(size)
            return real(sock, size)

        monkeypatch.setattr(socket, "recv", recv)


def test_records_are_read_exactly(tls: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = tls
    server.sendall(bytes(100))
    assert len(client.recv(1000)) == 100
    recorder = Recorder(monkeypatch)
    server.sendall(bytes(100))
    assert len(client._sslobj.read(1000)) == 100
    # A header; then exactly the body: 100 bytes, the inner type, and the tag of AEAD.
    assert recorder.sizes[0] == HEADER
    assert recorder.sizes[1] == 100 + 1 + 16


def test_unread_session_tickets_do_not_reset_the_connection(tls: Pair) -> None:
    client, server = tls
    client.close()  # the server's tickets have come and nobody has read them
    assert server.recv(1) == b""


def test_unread_data_resets_the_connection(tls: Pair) -> None:
    client, server = tls
    server.send(b"never read")
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)
