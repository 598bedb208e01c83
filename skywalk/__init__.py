"""Rings, channels, nexuses and the flowswitch. Empty until the Skywalk path lands."""
