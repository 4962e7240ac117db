"""What the machines of an attempt are called, and where they reach each other."""

import os
import socket


def own_name() -> str:
    """Return what this machine is called: by Slurm, where it runs this."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def free_port(wanted: int) -> int:
    """Return the port `wanted`, or any that is free where something on this machine has it."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            try:
                listener.bind(("", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    return wanted


def own_address(first: str, node: int) -> str:
    """Return where others reach this machine: where it speaks from on the way to the first."""
    if node == 0:
        return first
    family, kind, protocol, _, address = socket.getaddrinfo(first, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as speaker:
        speaker.connect(address)  # sends nothing
        return str(speaker.getsockname()[0])
