"""requests must refuse a server whose certificate nobody vouches for."""

import sys

import requests

try:
    requests.get(sys.argv[1], timeout=30)
except requests.exceptions.SSLError:
    print("refused")
