"""Sockets that are made only for addresses that the guard allows: the last lock."""

import socket

from data_pipeline.crawl.guard import Guard


class GuardedSockets:
    """Makes sockets: sees the very address that is about to be connected to."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __call__(self, family: int, kind: int, protocol: int, address: str) -> socket.socket:
        """Return a socket for an address, or RefusedError."""
        self._guard.check_socket(address)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made
