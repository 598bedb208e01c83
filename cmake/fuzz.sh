#!/bin/sh
# Usage: fuzz.sh BUILD_DIR SECONDS. Runs every fuzzer of BUILD_DIR that long.
# New inputs stay under BUILD_DIR; an input that breaks a fuzzer is named.
set -eu
dir=$1 seconds=$2 ran=0
for source in tests/fuzz/fuzz_*.c; do
	[ -e "$source" ] || break
	name=$(basename "$source" .c)
	found=$dir/corpus/$name seeds=tests/fuzz/corpus/$name
	mkdir -p "$found"
	[ -d "$seeds" ] || seeds=
	if ! "$dir/$name" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 \
		-print_final_stats=1 -artifact_prefix="$dir/$name-" "$found" $seeds \
		>"$dir/$name.log" 2>&1; then
		tail -n 40 "$dir/$name.log" >&2
		echo "xsock: $name failed; its input is beside $dir/$name.log" >&2
		exit 1
	fi
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log")
	echo "$name: $runs runs in $seconds s"
	ran=$((ran + 1))
done
echo "fuzz: $ran fuzzers passed"
