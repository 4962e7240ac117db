"""Ends a build with one line when one of Ray's own processes on this machine dies.

A driver that has lost its raylet waits, or is ended by Ray's libraries with pages of C++ frames.
All that was done is in the ledger, so the same command goes on from there with a Ray of its own.
"""

import contextlib
import os
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from trawl.errors import StaleError
from trawl.fence import Fence

_DAEMONS = ("raylet", "gcs_server")


@contextlib.contextmanager
def watched(folder: Path, fence: Fence | None = None) -> Iterator[None]:
    """Watch Ray's processes whose files lie in `folder` until the block ends."""
    daemons = _daemons(folder) if hasattr(os, "pidfd_open") else {}
    handles = {}
    for pid, name in daemons.items():
        with contextlib.suppress(ProcessLookupError):
            handles[os.pidfd_open(pid)] = name
    wake, ring = os.pipe()
    thread = threading.Thread(
        target=_wait, args=(handles, wake, fence), daemon=True, name="ray-watch"
    )
    thread.start()
    try:
        yield
    finally:
        os.write(ring, b".")
        thread.join()
        for handle in (*handles, wake, ring):
            os.close(handle)


def _wait(handles: dict[int, str], wake: int, fence: Fence | None) -> None:
    """Wait for a death, or to be woken because the block ends."""
    poll = select.poll()
    for handle in (*handles, wake):
        poll.register(handle, select.POLLIN)
    ready = {handle for handle, _ in poll.poll()}
    if wake in ready:
        return
    if fence is not None:
        try:
            fence.check()
        except StaleError as error:
            print(f"\ntrawl: {error}", file=sys.stderr, flush=True)
            os._exit(error.exit_code)
    name = handles[next(iter(ready))]
    print(
        f"\ntrawl: Ray's process {name} has died (killed, or out of memory?); "
        "what was done is kept: run the same command again to go on",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)  # no call into Ray returns any more


def _daemons(folder: Path) -> dict[int, str]:
    """Return the children of this process that are Ray's daemons, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            line = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        name = Path(os.fsdecode(line[0])).name
        if parent == os.getpid() and name in _DAEMONS and str(folder).encode() in b" ".join(line):
            found[int(entry.name)] = name
    return found
