"""The subcommands of ``xsock``; each module has add_arguments() and run()."""

__all__ = ["UnknownProgram"]


class UnknownProgram(FileNotFoundError):
    """What is to be run is not there."""
