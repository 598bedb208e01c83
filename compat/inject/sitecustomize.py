"""Patches xsock in before any other module of the test process is imported."""

import os

if os.environ.get("XSOCK_COMPAT_PATCH") == "1":
    import xsock

    xsock.patch()
