"""The ``xsock`` command: ``python -m xsock`` is the same."""

import argparse
import importlib
import sys
from typing import Final

__all__ = ["main"]

FAILED: Final = 1
MALFORMED: Final = 2  # as argparse answers for an option it does not know
COMMANDS: Final = {
    "run": "run a Python program or console script, unmodified, on a stack of its own",
    "demo": "show a program reaching a server of this host through its own stack",
    "ping": "send ICMP echo requests from a stack",
    "netstat": "show a running stack's sockets, routes, interfaces and counters",
}


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
    except (OSError, ValueError, ImportError) as error:
        print(f"xsock: {' '.join(str(error).split())}", file=sys.stderr)
        return MALFORMED if isinstance(error, ValueError) else FAILED
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
