"""Imports and ``#include`` lines run downwards: xsock, skywalk | bsdcore, nic.

import-linter says the same of Python in ``make check``; this one needs only
the sources, and reads the C as well.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("nic", "bsdcore", "skywalk", "xsock")
BELOW = {
    "nic": set(),
    "bsdcore": {"nic"},
    "skywalk": {"nic"},
    "xsock": {"nic", "bsdcore", "skywalk"},
}  # fmt: skip
# All that the siblings may know of nic: the narrow waist.
WAIST = {"nic/flow.h", "nic/pkt.h", "nic/port.h", "nic/qos.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def imports(source: Path) -> Iterator[str]:
    """Dotted names that *source* imports, relative ones made absolute."""
    here = source.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_downwards(package: str) -> None:
    allowed = BELOW[package] | {package}
    wrong = {
        f"{source.relative_to(ROOT)} imports {name}"
        for source in (ROOT / package).rglob("*.py")
        for name in imports(source)
        if name.partition(".")[0] in {*PACKAGES, "tests", "compat"} - allowed
    }
    assert wrong == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_only_ffi_touches_the_extension(package: str) -> None:
    raw = f"{package}._{package}"
    users = {
        str(source.relative_to(ROOT))
        for base in PACKAGES
        for source in (ROOT / base).rglob("*.py")
        if any(name == raw or name.startswith(f"{raw}.") for name in imports(source))
    }
    assert users <= {f"{package}/_ffi.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_includes_run_downwards(package: str) -> None:
    wrong = set()
    for source in [*(ROOT / package).rglob("*.c"), *(ROOT / package).rglob("*.h")]:
        for quote, name in INCLUDE.findall(source.read_text(encoding="utf-8")):
            ours = name.partition("/")[0] in {*PACKAGES, "tests"}
            if quote == "<" and not ours:
                continue
            inside = name.startswith(f"{package}/") and (ROOT / name).is_file()
            below = name in WAIST and "nic" in BELOW[package]
            if quote != '"' or not (inside or below):
                wrong.add(f"{source.relative_to(ROOT)} includes {name}")
    assert wrong == set()
