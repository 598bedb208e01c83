"""Writes the C of bsdcore's extension module: ``python bsdcore/_build.py OUTPUT.c``.

Includes the declarations of nic, whose builder is loaded by path: at this
point the extension that the package would import does not exist.
"""

import runpy
import sys
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent
_NIC = runpy.run_path(str(_HERE.parent / "nic" / "_build.py"))


def builder() -> FFI:
    """The definition of ``bsdcore._bsdcore``, for emitting it and for others to include."""
    ffi = FFI()
    ffi.include(_NIC["builder"]())
    ffi.cdef(_NIC["declarations"](_HERE / "api.h"))
    ffi.set_source("bsdcore._bsdcore", '#include "nic/api.h"\n#include "bsdcore/api.h"')
    return ffi


if __name__ == "__main__":
    builder().emit_c_code(sys.argv[1])
