"""Ports that are free now on this machine."""

import socket


def free_ports(count: int) -> list[int]:
    """Return `count` ports of the loopback that nothing listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    return free_ports(1)[0]
