#!/bin/bash
# Usage: build.sh BIN DIR OPTION... Configures DIR with the CMake of BIN and
# these options, unless that is what it has already; then builds what changed.
set -eu -o pipefail
bin=$1 dir=$2
shift 2
export PATH="$bin:$PATH"
want="$(readlink -f "$bin/cmake") $(head -c 5 "$bin/../.ready") $*"
if [ "$(cat "$dir/.configured" 2>/dev/null)" != "$want" ]; then
	rm -rf "$dir"
	mkdir -p "$dir"
	if ! cmake -S . -B "$dir" -G Ninja "$@" >"$dir/configure.log" 2>&1; then
		echo "xsock: configuring $dir failed: $(grep -m 1 -A 3 Error "$dir/configure.log" |
			tr -s '\n ' ' ')(all of it: $dir/configure.log)" >&2
		exit 1
	fi
	printf '%s\n' "$want" >"$dir/.configured"
fi
cmake --build "$dir" -j "${JOBS:-2}" -- --quiet -k 0 | { grep -v -e '^-- ' -e '^generating ' -e 'already up-to-date' || true; }
