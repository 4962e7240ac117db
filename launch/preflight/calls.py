"""Machines call each other: every port of every machine from every other, and its clock.

Whoever connects is told the clock of the one that answers, so that no third clock is needed.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from launch.preflight.report import Arrival, Contact

_CLOCK = struct.Struct("!d")
_THREADS = 64
PANEL = 9
"""So many machines, the first ones, are those that clocks are compared with."""


def network() -> str:
    """Return what tells machines apart: two nodes in one network cannot listen on one port."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}:{Path('/proc/self/ns/net').stat().st_ino}"


@contextmanager
def listening(meeting: int) -> Iterator[tuple[dict[str, int], str | None]]:
    """Answer on the port `meeting` and on a free one until the block ends.

    Yields the ports by what for, and why the first is not among them, if it is not.
    """
    listeners = {"any": _listener(0)}
    problem = None
    try:
        listeners["meeting"] = _listener(meeting)
    except OSError as error:
        problem = error.strerror or str(error)
    for listener in listeners.values():
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()
    try:
        yield {name: int(each.getsockname()[1]) for name, each in listeners.items()}, problem
    finally:
        for listener in listeners.values():
            listener.close()


def _listener(port: int) -> socket.socket:
    """Listen on `port` of all addresses, of IPv6 too where there is one."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(
        ("", port), family=family, dualstack_ipv6=both, backlog=1024, reuse_port=False
    )


def _answer(listener: socket.socket) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return  # closed
        with caller:
            try:
                caller.sendall(_CLOCK.pack(time.time()))
            except OSError:
                continue


def call_all(me: int, others: dict[int, Arrival], patience: float) -> list[Contact]:
    """Call all machines but `me` at all their ports."""
    called = [arrival for node, arrival in sorted(others.items()) if node != me]
    with ThreadPoolExecutor(min(_THREADS, max(1, len(called)))) as pool:
        return list(pool.map(lambda arrival: _call(arrival, patience), called))


def _call(arrival: Arrival, patience: float) -> Contact:
    contact = Contact(node=arrival.node)
    for name, port in arrival.ports.items():
        try:
            ahead = _ahead(arrival.address, port, patience)
        except TimeoutError:
            contact.closed[name] = f"port {port}: no answer within {patience:g} s"
        except OSError as error:
            contact.closed[name] = f"port {port}: {error.strerror or error}"
        else:
            if arrival.node < PANEL:
                contact.ahead_seconds = ahead
    return contact


def _ahead(address: str, port: int, patience: float) -> float:
    """Return by how much the clock of the one that answers is ahead, half a round trip at most."""
    with socket.create_connection((address, port), patience) as called:
        before = time.time()
        content = b""
        while len(content) < _CLOCK.size:
            piece = called.recv(_CLOCK.size - len(content))
            if not piece:
                raise ConnectionResetError("the connection was cut")
            content += piece
        return float(_CLOCK.unpack(content)[0]) - (before + time.time()) / 2
