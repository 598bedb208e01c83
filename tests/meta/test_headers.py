"""Every header includes what it uses; the public ones say the same to cffi and to C."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADERS = sorted(
    str(header.relative_to(ROOT))
    for package in ("nic", "bsdcore", "skywalk")
    for header in (ROOT / package).rglob("*.h")
)
COMPILE = "cc -x c -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror -fsyntax-only".split()
DECLARATIONS = runpy.run_path(str(ROOT / "nic" / "_build.py"))["declarations"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc: apt-get install gcc")
def test_headers_stand_alone() -> None:
    alone = {}
    for header in HEADERS:
        run = subprocess.run(
            [*COMPILE, "-I", str(ROOT), "-"],
            input=f'#include "{header}"\n#include "{header}"\nint unit;\n',
            capture_output=True,
            text=True,
        )
        if run.returncode != 0:
            alone[header] = next(line for line in run.stderr.splitlines() if "error" in line)
    assert alone == {}


def test_declarations_keep_integer_constants(tmp_path: Path) -> None:
    header = tmp_path / "api.h"
    header.write_text(
        "#ifndef API_H\n#define API_H\n#include <stdint.h>\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n'
        '#define A 12 /* why */\n#define B (1 << 3)\n#define C "text"\n'
        "#define D(x) ((x) + \\\n\t1)\n#define E 0x1f\n"
        "/* a\n * b */ int f(void);\n"
        "#ifdef __cplusplus\n}\n#endif\n#endif\n",
        encoding="utf-8",
    )
    lines = [line.strip() for line in DECLARATIONS(header).splitlines() if line.strip()]
    assert lines == ["#define A 12", "#define B ...", "#define E 0x1f", "int f(void);"]
