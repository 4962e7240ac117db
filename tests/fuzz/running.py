"""One entrance, entered for a given time in a process of its own.

The process keeps the input that it is at in a file, so that a crash or a hang of a decoder, which
no exception tells of, leaves it behind.
"""

import contextlib
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz.entrances import ENTRANCES, real_bodies
from tests.fuzz.spoiling import inputs

MAX_SECONDS = 20.0
"""CPU time that one input may take."""

MAX_GROWTH = 600 << 20
"""Bytes of address space beyond what the process has before its first input."""

_BATCH = 50


def fuzz(name: str, seconds: float, seed: int, current: Path) -> None:
    """Enter one entrance for `seconds`, writing each input to `current` first."""
    entrance = ENTRANCES[name]
    entered, slowest = 0, 0.0

    def enter(data: bytes) -> None:
        nonlocal entered, slowest
        current.write_bytes(data)
        start = time.process_time()
        entrance.enter(data)
        spent = time.process_time() - start
        assert spent < MAX_SECONDS, f"{spent:.1f} s for {len(data)} bytes"
        entered, slowest = entered + 1, max(slowest, spent)

    seeds = entrance.seeds(real_bodies(entrance.kind))
    for data in seeds:
        enter(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MAX_GROWTH, size + MAX_GROWTH))
    end = time.monotonic() + seconds
    test = hypothesis.given(inputs(entrance, seeds))(enter)
    test = hypothesis.settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(test)
    while time.monotonic() < end:
        hypothesis.seed(seed)(test)()
        seed += 1
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{name}: {entered} inputs, slowest {slowest:.2f} CPU s, memory grew by {growth:.0f} MB")


class Hang:
    """Tells a process that works at one input for too long, however busy the machine is."""

    def __init__(self, pid: int, current: Path) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._current = current
        self._changed = 0.0
        self._began = 0.0

    def is_over(self) -> bool:
        """Say whether the process has spent five times MAX_SECONDS at its present input."""
        with contextlib.suppress(OSError):
            ticks = self._stat.read_text().rpartition(")")[2].split()[11]
            spent = int(ticks) / os.sysconf("SC_CLK_TCK")
            changed = self._current.stat().st_mtime
            if changed != self._changed:
                self._changed, self._began = changed, spent
            return bool(spent - self._began > 5 * MAX_SECONDS)
        return False


def watched(name: str, seconds: float, seed: int) -> bool:
    """Fuzz in another process and say whether it came through; what it fell over is kept."""
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "input"
        current.touch()
        process = multiprocessing.get_context("spawn").Process(
            target=fuzz, args=(name, seconds, seed, current)
        )
        process.start()
        hang = Hang(process.pid or 0, current)
        while process.is_alive():
            if hang.is_over():
                process.kill()
            process.join(1)
        if process.exitcode == 0:
            return True
        kept = Path(f"fuzz-{name}.input")
        kept.write_bytes(current.read_bytes())
    print(f"{name}: ended with {process.exitcode}; the last input is in {kept}")
    return False
