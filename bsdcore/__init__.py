"""The 4.4BSD stack: sockets, mbufs, protosw, TCP, UDP, IP, Ethernet."""
