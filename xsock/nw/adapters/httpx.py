"""httpx over nw: ``httpx.AsyncClient(transport=Transport(stack))``."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from xsock.nw._stack import Stack
from xsock.nw.adapters.httpcore import Backend

__all__ = ["Transport"]


@contextmanager
def _as_httpx() -> Iterator[None]:
    """httpcore's exceptions have the names of httpx's."""
    try:
        yield
    except Exception as error:
        kind = getattr(httpx, type(error).__name__, None)
        if kind is None or not type(error).__module__.startswith("httpcore"):
            raise
        raise kind(str(error)) from error


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, below: Any) -> None:
        self._below = below

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._below:
                yield part

    async def aclose(self) -> None:
        await self._below.aclose()


class Transport(httpx.AsyncBaseTransport):
    """Connects by *stack*, or the one that is current. *pool* is for httpcore's pool."""

    def __init__(
        self, stack: Stack | None = None, *, verify: ssl.SSLContext | str | bool = True,
        limits: httpx.Limits | None = None, **pool: Any,
    ) -> None:  # fmt: skip
        limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=Backend(stack),
            **pool,
        )

    async def __aenter__(self) -> Transport:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._pool.__aexit__(*exc)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        assert isinstance(request.stream, httpx.AsyncByteStream)
        sent = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = await self._pool.handle_async_request(sent)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream),
            extensions=answer.extensions,
        )  # fmt: skip

    async def aclose(self) -> None:
        await self._pool.aclose()
