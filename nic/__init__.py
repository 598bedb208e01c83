"""Frames in, frames out: packets, ports and NIC backends. Knows no protocol."""
