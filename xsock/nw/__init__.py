"""Asynchronous connections over a user-space TCP/IP stack, on asyncio, uvloop and trio."""
