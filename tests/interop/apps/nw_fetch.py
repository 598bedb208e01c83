"""One process, one NIC: nw fetches over TLS in its event loop, requests in a thread beside it."""

import hashlib
import json
import sys
import threading

import anyio

from xsock import nw

url, authority, host, port, path, backend = sys.argv[1:7]


def legacy(answer: dict[str, str]) -> None:
    import requests

    with requests.Session() as session:
        session.verify, session.trust_env = authority, False
        with session.get(url, stream=True, timeout=30) as response:
            digest = hashlib.sha256()
            for piece in response.iter_content(1 << 16):
                digest.update(piece)
    answer["requests"] = digest.hexdigest()


async def fetch(answer: dict[str, str]) -> None:
    import ssl

    context = ssl.create_default_context(cafile=authority)
    async with (
        nw.Stack.host() as stack,
        stack.connection((host, int(port)), nw.TLS(context=context)) as conn,
    ):
        request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        await conn.send(request.encode())
        head = await conn.receive_until(b"\r\n\r\n", 65536)
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        digest, left = hashlib.sha256(), length
        while left:
            data = await conn.receive(262_144)
            digest.update(data)
            left -= len(data)
    answer["nw"] = digest.hexdigest()


async def httpx_get(answer: dict[str, str]) -> None:
    import ssl

    import httpx

    from xsock.nw.adapters.httpx import Transport

    verify = ssl.create_default_context(cafile=authority)
    async with (
        nw.Stack.host() as stack,
        httpx.AsyncClient(transport=Transport(stack, verify=verify), timeout=30) as client,
        client.stream("GET", url) as response,
    ):
        digest = hashlib.sha256()
        async for part in response.aiter_bytes():
            digest.update(part)
    answer["httpx"] = digest.hexdigest()


async def wait_beside() -> None:
    await anyio.to_thread.run_sync(beside.join)


async def both(answer: dict[str, str]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(wait_beside)
        group.start_soon(fetch, answer)
        group.start_soon(httpx_get, answer)


answers: dict[str, str] = {}
beside = threading.Thread(target=legacy, args=(answers,))
beside.start()
if backend == "trio":
    anyio.run(both, answers, backend="trio")
else:
    anyio.run(both, answers, backend_options={"use_uvloop": backend == "uvloop"})
print(json.dumps(answers))
