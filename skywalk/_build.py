"""Writes the C of skywalk's extension module: ``python skywalk/_build.py OUTPUT.c``.

Includes the declarations of nic, whose builder is loaded by path: at this
point the extension that the package would import does not exist.
"""

import runpy
import sys
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent
_NIC = runpy.run_path(str(_HERE.parent / "nic" / "_build.py"))
_HEADERS = [name for name in ("api.h", "api_fsw.h") if (_HERE / name).exists()]


def builder() -> FFI:
    """The definition of ``skywalk._skywalk``, for emitting it and for others to include."""
    ffi = FFI()
    ffi.include(_NIC["builder"]())
    for name in _HEADERS:
        ffi.cdef(_NIC["declarations"](_HERE / name))
    includes = ["nic/api.h", *(f"skywalk/{name}" for name in _HEADERS)]
    ffi.set_source("skywalk._skywalk", "\n".join(f'#include "{name}"' for name in includes))
    return ffi


if __name__ == "__main__":
    builder().emit_c_code(sys.argv[1])
