"""Other libraries' networking over connections of nw: anyio, asyncio, trio, httpcore, httpx.

Each is a module of its own, imported by name. All of them are written against anyio's
ByteStream, so they also work over any other; a ByteConnection's faster calls are used
where it has them.
"""
