"""Fetch URLs with urllib; for each one line of JSON: size and SHA-256."""

import hashlib
import json
import sys
import urllib.request

for url in sys.argv[1:]:
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=45) as answer:
        while block := answer.read(1 << 16):
            digest.update(block)
            size += len(block)
    print(json.dumps({"size": size, "sha256": digest.hexdigest()}))
