"""Benchmarks: ratios against a peer measured in the same run, never a bare time.

``python -m tests.bench --list`` names them; ``python -m tests.bench NAME --json``
runs one. Each side of a pair runs in a process of its own, the sides alternate,
and the ratio printed is the median of the pairs' ratios (ours divided by peer).
"""
