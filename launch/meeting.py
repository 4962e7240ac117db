"""Where the machines of an attempt reach each other."""

import socket


def own_address(first: str, node: int) -> str:
    """Return where others reach this machine: where it speaks from on the way to the first."""
    if node == 0:
        return first
    family, kind, protocol, _, address = socket.getaddrinfo(first, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as speaker:
        speaker.connect(address)  # sends nothing
        return str(speaker.getsockname()[0])
