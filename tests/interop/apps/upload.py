"""PUT a file to a URL with urllib, as it is read from disk; print the status."""

import sys
import urllib.request
from pathlib import Path

path, url = Path(sys.argv[1]), sys.argv[2]
with path.open("rb") as file:
    request = urllib.request.Request(url, data=file, method="PUT")
    request.add_header("Content-Length", str(path.stat().st_size))
    with urllib.request.urlopen(request, timeout=45) as answer:
        print(answer.status)
