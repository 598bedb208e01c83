"""requests: one session, kept-alive GETs, a streamed one, a POST refused; TLS if a CA is named."""

import hashlib
import json
import sys

import requests

url, authority = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else True
with requests.Session() as session:
    session.verify = authority
    session.trust_env = False
    times = [session.get(url, timeout=30) for _ in range(3)]
    assert all(answer.status_code == 200 for answer in times)
    with session.get(url, stream=True, timeout=30) as answer:
        digest = hashlib.sha256()
        for piece in answer.iter_content(1 << 16):
            digest.update(piece)
    refused = session.post(url, data=b"x" * 100_000, timeout=30).status_code
print(
    json.dumps(
        {
            "sha256": sorted(
                {digest.hexdigest()} | {hashlib.sha256(a.content).hexdigest() for a in times}
            ),
            "refused": refused,
        }
    )
)
