"""Queue bytes and leave at once, without closing: they must arrive."""

import socket
import sys

sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.setblocking(False)
data, sent = bytes(range(256)) * 4096, 0
try:
    while sent < len(data):
        sent += sock.send(data[sent:])
except BlockingIOError:
    pass
print(sent, flush=True)
