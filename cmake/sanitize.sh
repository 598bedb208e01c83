#!/bin/bash
# Usage: sanitize.sh CC BIN SANITIZERS [PYTEST ARGS]. Builds everything with
# -fsanitize=SANITIZERS under build/, runs the C unit tests and then pytest
# with the sanitized extensions in place of the ordinary ones.
#
# The interpreter is not instrumented, so the run-time library is preloaded,
# and what the interpreter does not free at exit is not reported.
set -eu -o pipefail
cc=$1 bin=$2 sanitizers=$3
shift 3
name=${sanitizers/,/-}
tag=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
dir=build/$name-py$tag
export PATH="$bin:$PATH"

case $sanitizers in
*address*) runtime=libasan.so ;;
*undefined*) runtime=libubsan.so ;;
*thread*) runtime=libtsan.so ;;
esac
runtime=$("$cc" -print-file-name="$runtime")
if [ ! -e "$runtime" ]; then
	echo "xsock: $cc has no $runtime: apt-get install libgcc-12-dev, or CC=gcc" >&2
	exit 1
fi

mkdir -p "$dir"
[ -f "$dir/build.ninja" ] ||
	cmake -S . -B "$dir" -G Ninja -DCMAKE_C_COMPILER="$cc" -DPython_EXECUTABLE="$bin/python" \
		-DXSOCK_INPLACE=OFF -DXSOCK_TESTS=ON -DXSOCK_SANITIZE="$sanitizers" \
		>"$dir/configure.log" 2>&1 || {
	grep -A 5 Error "$dir/configure.log" >&2
	exit 1
}
cmake --build "$dir" -- --quiet | { grep -v '^-- ' || true; }

export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1:ignore_noninstrumented_modules=1
echo "$sanitizers: C unit tests"
ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 \
	ctest --test-dir "$dir" --output-on-failure --no-tests=error | tail -n 8

# The Python sources beside the sanitized extensions, found before the tree.
site=$PWD/$dir/site
find nic bsdcore skywalk xsock \( -name '*.py' -o -name py.typed \) -exec cp -p --parents -t "$site" {} +
echo "$sanitizers: pytest"
ASAN_OPTIONS=detect_leaks=0:handle_segv=1:allocator_may_return_null=1 PYTHONMALLOC=malloc \
	PYTHONPATH="$site" LD_PRELOAD="$runtime" XSOCK_SANITIZED="$sanitizers" \
	"$bin/python" -P -m pytest -q --timeout 240 -m 'not slow' -p no:cacheprovider "$@"
