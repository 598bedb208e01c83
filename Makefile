# The one door: `make demo` and `make test` are all a newcomer types.
# PYTHON=python3.12 chooses the interpreter; VENV, JOBS as below.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
CC ?= cc
PY = $(VENV)/bin/python
BIN = $(CURDIR)/$(VENV)/bin
CMAKE = PATH="$(BIN):$$PATH" $(BIN)/cmake
say = printf 'xsock: %s\n'

.PHONY: build venv compiler

venv:
	@cmake/venv.sh "$(PYTHON)" "$(VENV)"

compiler:
	@command -v $(CC) >/dev/null || { \
	    $(say) "no C compiler ($(CC)): apt-get install gcc libc6-dev" >&2; exit 1; }

# Extensions beside the Python sources; what has not changed is not compiled.
build: venv compiler
	@tag=$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	dir=build/py$$tag; \
	test -f $$dir/build.ninja || $(CMAKE) -S . -B $$dir -G Ninja -DCMAKE_C_COMPILER=$(CC) \
	    -DPython_EXECUTABLE=$(BIN)/python --log-level=WARNING || exit 1; \
	$(CMAKE) --build $$dir -j $(JOBS) -- --quiet
