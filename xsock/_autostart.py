"""Patches a process at its start, if the environment says so: XSOCK_PATCH=1.

Called by the package's .pth file where it is installed, and by the
sitecustomize module that ``xsock run`` puts on PYTHONPATH.
"""

import os
import sys

__all__ = ["activate"]

FAILED = 2  # exit status


def activate() -> None:
    """Patch, once. A mistake in the settings ends the process with one line on stderr."""
    if os.environ.get("XSOCK_PATCH", "0") in ("", "0"):
        return
    try:
        import xsock

        xsock.patch(late=os.environ.get("XSOCK_LATE", "warn"))
    except (ImportError, ValueError, RuntimeError) as error:
        # An exception here would be lost, or end in a page of interpreter internals.
        print(f"xsock: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        os._exit(FAILED)
