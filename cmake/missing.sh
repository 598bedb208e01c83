#!/bin/sh
# Usage: missing.sh PROGRAM PACKAGE... Says that a step is left out because
# PROGRAM is absent, and what installs it. In CI that is a failure.
program=$1
shift
echo "xsock: SKIPPED, no $program: apt-get install $*" >&2
[ "${CI:-}" != true ]
