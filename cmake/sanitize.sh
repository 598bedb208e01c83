#!/bin/bash
# Usage: sanitize.sh CC BIN SANITIZERS [PYTEST ARGS]. Builds everything with
# -fsanitize=SANITIZERS under build/, runs the C unit tests and then pytest
# with the sanitized extensions in place of the ordinary ones.
#
# With UNITS=REGEX in the environment: only the C unit tests whose names match,
# and no Python.
#
# The interpreter is not instrumented, so the run-time library is preloaded,
# and what the interpreter does not free at exit is not reported.
set -eu -o pipefail
cc=$1 bin=$2 sanitizers=$3
shift 3
name=${sanitizers/,/-}
tag=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
dir=build/$name-py$tag
if [ -n "${UNITS:-}" ]; then
	dir=build/$name-units
fi
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

if [ -n "${UNITS:-}" ]; then
	cmake/build.sh "$bin" "$dir" -DCMAKE_C_COMPILER="$cc" -DXSOCK_EXT=OFF -DXSOCK_TESTS=ON \
		-DXSOCK_SANITIZE="$sanitizers"
	echo "$sanitizers: C unit tests $UNITS"
	TSAN_OPTIONS=second_deadlock_stack=1 ctest --test-dir "$dir" -R "$UNITS" -j "${JOBS:-2}" \
		--output-on-failure --no-tests=error |
		{ grep -v -e '^Internal ctest' -e '^ *Start ' -e '^Test project' || true; }
	exit 0
fi

cmake/build.sh "$bin" "$dir" -DCMAKE_C_COMPILER="$cc" -DPython_EXECUTABLE="$bin/python" \
	-DXSOCK_INPLACE=OFF -DXSOCK_TESTS=ON -DXSOCK_SANITIZE="$sanitizers"

echo "$sanitizers: C unit tests"
ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
	ctest --test-dir "$dir" -j "${JOBS:-2}" --output-on-failure --no-tests=error |
	{ grep -v -e '^Internal ctest' -e '^ *Start ' -e '^Test project' || true; }

# The Python sources beside the sanitized extensions, found before the tree.
site=$PWD/$dir/site
mkdir -p "$site"
find "$site" -name '*.py' -delete
find nic bsdcore skywalk xsock \( -name '*.py' -o -name py.typed \) \
	-exec cp -p --parents -t "$site" {} +

# pytest keeps what a test prints, and a test may start children: every
# process writes its report to a file, and any report is a failure.
report=$PWD/$dir/report
rm -f "$report".*
common=log_path=$report:exitcode=66
export ASAN_OPTIONS=$common:detect_leaks=0:handle_segv=1:allocator_may_return_null=1
export UBSAN_OPTIONS=$common:print_stacktrace=1
export TSAN_OPTIONS=$common:second_deadlock_stack=1:ignore_noninstrumented_modules=1
export PYTHONMALLOC=malloc PYTHONPATH=$site
echo "$sanitizers: pytest"
status=0
LD_PRELOAD=$runtime "$bin/python" -P -m pytest -q --timeout 240 -m 'not slow' \
	-p no:cacheprovider "$@" || status=$?
for file in "$report".*; do
	[ -e "$file" ] || break
	echo "xsock: $sanitizers report $file" >&2
	head -n 60 "$file" >&2
	status=1
done
exit "$status"
