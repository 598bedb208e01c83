"""Named sets of CPython's test files; a Python that lacks a file leaves it out."""

from typing import Final

SOCKET: Final = ("test_socket",)
POLLING: Final = ("test_select", "test_poll", "test_epoll", "test_selectors")
CLIENTS_AND_SERVERS: Final = (
    "test_timeout", "test_socketserver", "test_ssl", "test_httplib", "test_httpservers",
    "test_wsgiref", "test_xmlrpc", "test_docxmlrpc", "test_urllib2_localnet", "test_ftplib",
    "test_poplib", "test_imaplib", "test_smtplib", "test_logging", "test_telnetlib", "test_nntplib",
    "test_asyncore", "test_asynchat", "test_smtpd",
)  # fmt: skip
ASYNCIO: Final = tuple(
    f"test_asyncio.test_{name}"
    for name in (
        "events", "unix_events", "selector_events", "streams", "sock_lowlevel", "server",
        "sendfile", "buffered_proto", "ssl", "sslproto",
    )
)  # fmt: skip
SETS: Final = {
    "socket": SOCKET,
    "polling": POLLING,
    "stdlib": CLIENTS_AND_SERVERS,
    "asyncio": ASYNCIO,
    "all": SOCKET + POLLING + CLIENTS_AND_SERVERS + ASYNCIO,
}
