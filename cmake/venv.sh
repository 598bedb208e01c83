#!/bin/sh
# Usage: venv.sh PYTHON VENV. Makes VENV, with the project's tools and xsock
# itself (editable) in it, for the interpreter PYTHON; does nothing when that
# is already so. Remakes it for another interpreter, another place or another
# pyproject.toml. Writes nothing outside the tree.
set -u
python=$1 venv=$2
cd "$(dirname "$0")/.." || exit 1

die()
{
	printf 'xsock: %s\n' "$1" >&2
	exit 1
}

probe='import sys; print("%d.%d %s" % (*sys.version_info[:2], sys._base_executable))'
have=$("$python" -c "$probe" 2>/dev/null)
if [ -z "$have" ] && command -v pyenv >/dev/null; then
	# A pyenv shim answers only for versions that are switched on.
	for found in "$(pyenv root)"/versions/*/bin/"$(basename "$python")"; do
		have=$("$found" -c "$probe" 2>/dev/null) && python=$found
	done
fi
[ -n "$have" ] ||
	die "$python does not run; install Python 3.11 or later, or name one: make PYTHON=python3.12"
case $have in
3.1[1-9]\ *|3.[2-9][0-9]\ *) ;;
*) die "$python is Python ${have%% *}, 3.11 or later is needed: make PYTHON=python3.11" ;;
esac

include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$include/Python.h" ] ||
	die "Python ${have%% *} has no headers ($include/Python.h): apt-get install python3-dev"

want="$have $PWD $(cksum pyproject.toml cmake/venv.sh)"
if [ "$(cat "$venv/.ready" 2>/dev/null)" = "$want" ]; then
	exit 0
fi
if [ -e "$venv" ] && ! [ -w "$venv" ]; then
	die "$venv belongs to $(stat -c %U "$venv"): remove it, or make VENV=.venv-$(id -un)"
fi
[ -w . ] || die "$PWD is not writable by $(id -un): clone it somewhere you own"
echo "preparing $venv for Python ${have%% *} (once)"
case $(head -n 1 "$venv/.ready" 2>/dev/null) in
"$have $PWD "*) rm -f "$venv/.ready" ;;
*)
	rm -rf "$venv"
	"$python" -m venv "$venv" 2>/dev/null || {
		rm -rf "$venv"
		die "$python cannot make a virtual environment: apt-get install python3-venv"
	}
	;;
esac

log=$venv/install.log
pip()
{
	"$venv/bin/python" -m pip --disable-pip-version-check --cache-dir build/pip install "$@" >>"$log" 2>&1 ||
		die "cannot install Python packages (is the package index reachable?): see $log: $(
			grep -i '^ *error' "$log" | head -n 1)"
}
: >"$log"
pip 'pip>=25.1'
pip --group build
# The Makefile builds the extensions itself, incrementally.
pip --no-build-isolation -C wheel.cmake=false -C wheel.py-api=py3 --group dev -e .
printf '%s\n' "$want" >"$venv/.ready"
