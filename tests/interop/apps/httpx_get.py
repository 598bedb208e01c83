"""httpx: a blocking client, then twenty requests at once on asyncio; TLS if a CA is named."""

import asyncio
import hashlib
import json
import ssl
import sys

import httpx

url = sys.argv[1]
verify = ssl.create_default_context(cafile=sys.argv[2]) if len(sys.argv) > 2 else False


async def many() -> list[str]:
    async with httpx.AsyncClient(verify=verify, trust_env=False, timeout=30) as client:
        answers = await asyncio.gather(*(client.get(url) for _ in range(20)))
    return [hashlib.sha256(answer.content).hexdigest() for answer in answers]


with httpx.Client(verify=verify, trust_env=False, timeout=30) as client:
    found = {hashlib.sha256(client.get(url).content).hexdigest() for _ in range(3)}
print(json.dumps({"sha256": sorted(found | set(asyncio.run(many())))}))
