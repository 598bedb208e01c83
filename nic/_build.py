"""Writes the C of nic's extension module: ``python nic/_build.py OUTPUT.c``.

Runs at build time, before any extension exists, so it is loaded by path and
must not import the package it belongs to.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

_CPLUSPLUS = re.compile(r"^#\s*ifdef __cplusplus\n.*?^#\s*endif[^\n]*\n", re.M | re.S)
_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*\n", re.M)
_CONSTANT = re.compile(r"^\s*#\s*define\s+([A-Za-z_]\w*)[ \t]+([^\n]*?)\s*$")
_LITERAL = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


def declarations(header: Path) -> str:
    """What cffi reads of *header*: no comments, no directives, integer constants kept.

    ``#define NAME 12`` stays, so that it may size an array; any other constant
    becomes ``#define NAME ...`` and the C compiler supplies its value. Strings
    and macros with arguments are dropped.
    """

    def keep(match: re.Match[str]) -> str:
        constant = _CONSTANT.match(match.group())
        if constant is None or '"' in constant[2]:
            return "\n"
        value = constant[2] if _LITERAL.fullmatch(constant[2]) else "..."
        return f"#define {constant[1]} {value}\n"

    text = header.read_text(encoding="utf-8")
    text = _COMMENT.sub(lambda comment: "\n" * comment.group().count("\n") or " ", text)
    return _DIRECTIVE.sub(keep, _CPLUSPLUS.sub("\n", text))


def builder() -> FFI:
    """The definition of ``nic._nic``, for emitting it and for others to include."""
    ffi = FFI()
    ffi.cdef(declarations(Path(__file__).with_name("api.h")))
    ffi.set_source("nic._nic", '#include "nic/api.h"')
    return ffi


if __name__ == "__main__":
    builder().emit_c_code(sys.argv[1])
