"""Sockets that are made only for addresses that the guard allows: the last lock."""

import socket
from typing import Any

from data_pipeline.crawl.guard import Guard


class GuardedSockets:
    """aiohttp's `socket_factory`: sees the very address that is about to be connected to."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __call__(self, address_info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for (family, type, protocol, name, address), or RefusedError."""
        family, kind, protocol, _, address = address_info
        self._guard.check_socket(str(address[0]))
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made
