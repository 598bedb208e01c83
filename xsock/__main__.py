"""The ``xsock`` command: ``python -m xsock`` is the same."""

import argparse
import importlib
import sys
from typing import Final

from xsock.cli import UnknownProgram

__all__ = ["main"]

COMMANDS: Final = {
    "run": "run a Python program or console script, unmodified, on a stack of its own",
    "demo": "show a program reaching a server of this host through its own stack",
    "ping": "send ICMP echo requests from a stack",
    "netstat": "show a running stack's sockets, routes, interfaces and counters",
    "sysctl": "show or set tunables",
}

FAILURE, USAGE, NOT_FOUND = 1, 2, 127  # exit statuses, as the shell's


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; answers the exit status. Errors are one line on stderr."""
    parser = argparse.ArgumentParser(prog="xsock", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    modules = {}
    for name, about in COMMANDS.items():
        modules[name] = importlib.import_module(f"xsock.cli.{name}")
        sub = commands.add_parser(name, help=about, description=modules[name].__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        modules[name].add_arguments(sub)
    given = parser.parse_args(arguments)
    try:
        return int(modules[given.command].run(given))
    except UnknownProgram as error:
        return _complain(error, NOT_FOUND)
    except (OSError, ImportError) as error:
        return _complain(error, FAILURE)
    except ValueError as error:
        return _complain(error, USAGE)
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception, status: int) -> int:
    print(f"xsock: {' '.join(str(error).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
