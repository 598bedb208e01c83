"""redis-py: values, pipelines, publish and subscribe, a blocking pop, a large value; also async."""

import asyncio
import json
import sys
import threading
from typing import Any

import redis
import redis.asyncio

host, port = sys.argv[1], int(sys.argv[2])
client = redis.Redis(host=host, port=port, socket_timeout=20)
assert client.ping()

blob = bytes(range(256)) * 16384
assert client.set("blob", blob)
same = client.get("blob") == blob

with client.pipeline(transaction=False) as pipe:
    for i in range(10_000):
        pipe.set(f"key:{i}", i)
    stored = sum(bool(x) for x in pipe.execute())
with client.pipeline(transaction=True) as pipe:
    for i in range(10_000):
        pipe.get(f"key:{i}")
    in_order = [int(x) for x in pipe.execute()] == list(range(10_000))

subscriber = client.pubsub(ignore_subscribe_messages=True)
subscriber.subscribe("news")
assert subscriber.get_message(timeout=20) is None  # the confirmation, which is ignored
for i in range(100):
    client.publish("news", i)
heard: list[int] = []
while len(heard) < 100:
    message = subscriber.get_message(timeout=20)
    assert message is not None, heard
    heard.append(int(message["data"]))
subscriber.close()

popped: list[Any] = []
waiter = threading.Thread(target=lambda: popped.append(client.blpop(["queue"], timeout=20)))
waiter.start()
client.rpush("queue", "late")
waiter.join()


async def tour() -> int:
    async with redis.asyncio.Redis(host=host, port=port, socket_timeout=20) as other:
        return sum(await asyncio.gather(*(other.incr("counter") for _ in range(100))))


print(
    json.dumps(
        {
            "same": same,
            "stored": stored,
            "in_order": in_order,
            "heard": heard == list(range(100)),
            "popped": popped[0] is not None and popped[0][1].decode(),
            "counted": asyncio.run(tour()),
        }
    )
)
