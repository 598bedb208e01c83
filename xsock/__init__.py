"""A socket-compatible networking library with a stack of its own."""

__version__ = "0.1.0"
