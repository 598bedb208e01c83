"""Other people's tests, run against the stack: see README.md in this folder."""
