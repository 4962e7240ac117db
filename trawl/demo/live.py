"""The demo's web as a running server, for as long as a block of code needs it."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trawl.errors import WorkError

_START_SECONDS = 60.0


@contextlib.contextmanager
def live_web(folder: Path) -> Iterator[str]:
    """Serve the web in `folder` on loopback and yield its address as `127.0.0.1:PORT`.

    The server reads its standard input and ends when that closes, so it never outlives us.
    """
    with tempfile.TemporaryDirectory(prefix="trawl-web-") as scratch:
        ready = Path(scratch) / "address"
        command = [sys.executable, "-m", "trawl.demo.server", str(folder), "--port", "0"]
        command += ["--ready-file", str(ready), "--until-stdin-closes"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            yield _address(ready, process, folder)
        finally:
            process.terminate()
            process.wait()


def _address(ready: Path, process: subprocess.Popen[bytes], folder: Path) -> str:
    """Wait until the server says where it listens."""
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if process.poll() is not None:
            raise WorkError(f"{folder}: the web server ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise WorkError(f"{folder}: the web server did not start in {_START_SECONDS:.0f} s")
        time.sleep(0.05)
    return ready.read_text().strip()
