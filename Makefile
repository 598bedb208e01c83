# The one door: `make demo` and `make test` are all a newcomer types.
# PYTHON=python3.12 chooses the interpreter; the environment is made in VENV.

PYTHON ?= python3
VENV ?= .venv
CC ?= cc
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_CC ?= clang-14
FUZZ_SECONDS ?= 10
TSAN_UNITS ?= ^test_(ring|upipe|hostile|channel|skmem|fsw|port_feth|threads|kern_netisr)
# Further arguments, as in: make test PYTEST="-k socket -x"
PYTEST ?=
BIN := $(abspath $(VENV))/bin
PACKAGES := nic bsdcore skywalk xsock
C_FILES = $(shell find nic bsdcore skywalk tests -name '*.[ch]' -not -path '*/corpus/*')

export JOBS
cmake = cmake/build.sh "$(BIN)"
ctest = $(BIN)/ctest --test-dir $(1) -j $(JOBS) --output-on-failure --no-tests=error | \
	{ grep -v -e '^Internal ctest' -e '^ *Start ' -e '^Test project' || true; }
# Runs a command and fails with it although its output goes through a pipe.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

.PHONY: help build demo test check asan ubsan tsan fuzz bench fmt clean distclean \
	tsan-units venv compiler ext units lint werror

help:
	@echo "make demo | test | check | build | asan | ubsan | tsan | fuzz | bench | fmt | clean"

venv:
	@cmake/venv.sh "$(PYTHON)" "$(VENV)"

compiler:
	@echo '#include <stdio.h>' | $(CC) -E - >/dev/null 2>&1 || { \
	    echo "xsock: no working C compiler ($(CC)): apt-get install gcc libc6-dev" >&2; exit 1; }

# Extensions beside the Python sources; what has not changed is not compiled.
build: venv compiler
	@tag=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	$(cmake) build/py$$tag -DCMAKE_C_COMPILER=$(CC) -DPython_EXECUTABLE=$(BIN)/python

demo: build
	@$(BIN)/xsock demo

# The C as plain libraries, with its unit tests.
units: venv compiler
	@$(cmake) build/lib -DCMAKE_C_COMPILER=$(CC) -DXSOCK_EXT=OFF -DXSOCK_LIB=ON -DXSOCK_TESTS=ON
	@$(call ctest,build/lib)

test: build units
	@$(BIN)/pytest $(PYTEST)

# Format, lint, types, layers.
lint: build
	@$(BIN)/ruff format --check --quiet --output-format concise .
	@differs=$$($(BIN)/clang-format --dry-run -Werror $(C_FILES) 2>&1 | \
	    sed -n 's/:[0-9]*:[0-9]*: error: .*//p' | sort -u || true); \
	test -z "$$differs" || { echo "xsock: make fmt would change" $$differs >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy $(wildcard nic bsdcore skywalk xsock compat tests)
	@$(BIN)/lint-imports --no-logo

# Warnings of the other compiler; those of $(CC) fail every build.
werror: venv
	@if command -v $(FUZZ_CC) >/dev/null; then \
	    $(cmake) build/clang -DCMAKE_C_COMPILER=$(FUZZ_CC) -DXSOCK_EXT=OFF -DXSOCK_LIB=ON \
	    -DXSOCK_TESTS=ON; \
	else cmake/missing.sh $(FUZZ_CC) clang-14; fi

check: lint werror tsan-units
	@cmake/sanitize.sh "$(CC)" "$(BIN)" address,undefined
	@$(MAKE) --no-print-directory fuzz
	@echo "check: passed"

asan: build
	@cmake/sanitize.sh "$(CC)" "$(BIN)" address $(PYTEST)

ubsan: build
	@cmake/sanitize.sh "$(CC)" "$(BIN)" undefined $(PYTEST)

tsan: build
	@cmake/sanitize.sh "$(CC)" "$(BIN)" thread $(PYTEST)

# Whatever runs in several threads at C's level: rings, channels, ports, netisr.
tsan-units: venv compiler
	@UNITS='$(TSAN_UNITS)' cmake/sanitize.sh "$(CC)" "$(BIN)" thread

# Each fuzzer for FUZZ_SECONDS, from the corpus kept in the tree.
fuzz: venv
	@if command -v $(FUZZ_CC) >/dev/null; then \
	    $(cmake) build/fuzz -DCMAKE_C_COMPILER=$(FUZZ_CC) -DXSOCK_FUZZ=ON; \
	    cmake/fuzz.sh build/fuzz $(FUZZ_SECONDS); \
	else cmake/missing.sh $(FUZZ_CC) clang-14 libclang-rt-14-dev; fi

bench: build
	@for name in $$($(BIN)/python -m tests.bench --list | cut -d ' ' -f 1); do \
	    $(BIN)/python -m tests.bench $$name --json; done

fmt: venv
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix --select I .
	@$(BIN)/clang-format -i $(C_FILES)

clean:
	rm -rf build $(wildcard $(PACKAGES:%=%/*.so)) .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .import_linter_cache .grimp_cache
	find cmake/inplace -mindepth 1 -not -name .gitignore -not -name CMakeLists.txt -delete
	find $(PACKAGES) tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-*
