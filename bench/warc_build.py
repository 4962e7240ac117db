"""A whole corpus build over WARC files against the floor of reading, parsing and decoding them.

    python bench/warc_build.py [FOLDER] [--recipe NAME] [--keep OUT]

FOLDER holds *.warc.gz; by default the test data beside the checkout, else a small web of our own.
Prints pages/s, images/s and peak memory (proportional set size of the whole process tree) of
`trawl corpus build`, the ratio of its seconds to the floor's in the same run, and its CPU seconds
by step and by kind of process: how much goes to Ray. --keep leaves the corpus at OUT.
"""

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from fastwarc.warc import ArchiveIterator, WarcRecordType
from selectolax.lexbor import LexborHTMLParser

from trawl.events import read_events

SHARED = Path(__file__).parents[2] / "shared" / "data" / "web"


def floor(files: list[Path]) -> tuple[int, int, float]:
    """Return pages, images and seconds of reading every record, parsing and decoding, one core."""
    cv2.setNumThreads(1)
    started = time.perf_counter()
    pages = images = 0
    for path in files:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                kind = (record.http_content_type or "").split(";")[0]
                body = record.reader.read()
                if kind in ("text/html", "application/xhtml+xml"):
                    LexborHTMLParser(body)
                    pages += 1
                elif kind.startswith("image/"):
                    cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
                    images += 1
    return pages, images, time.perf_counter() - started


class Memory(threading.Thread):
    """Samples the memory of a process and all its descendants until it is told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.ended = pid, 0, False
        self._cpu: dict[int, tuple[str, float]] = {}

    def run(self) -> None:
        while not self.ended:
            found = _tree(self.pid)
            self.peak = max(self.peak, sum(map(_proportional, found)))
            for pid in found:
                if spent := _cpu_of(pid, self.pid):
                    kind, seconds = spent  # a process that is ending has no command line any more
                    self._cpu[pid] = (kind or self._cpu.get(pid, ("",))[0], seconds)
            time.sleep(0.25)

    def cpu_by_kind(self) -> dict[str, float]:
        """Return the CPU seconds of all processes seen, by what they are."""
        total: collections.Counter[str] = collections.Counter()
        for kind, seconds in self._cpu.values():
            total[kind] += seconds
        return dict(total)


def _tree(root: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue
            parents[int(folder.name)] = int(text.rsplit(")", 1)[1].split()[1])
    found, front = [root], [root]
    while front:
        front = [pid for pid, parent in parents.items() if parent in front]
        found += front
    return found


def _cpu_of(pid: int, root: int) -> tuple[str, float] | None:
    """Return what a process is and the CPU seconds that it has taken, None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        line = (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        return None
    worker = line.startswith("ray::") or "default_worker.py" in line
    named = "workers" if worker else "Ray's own processes" if line else ""
    kind = "driver" if pid == root else named
    return kind, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if "Pss:" in line), 0)


def build(folder: Path, out: Path, recipe: str) -> tuple[float, Memory]:
    """Build a corpus from the WARC files in `folder`; return seconds and what was watched."""
    command = [sys.executable, "-m", "trawl", "corpus", "build", recipe, "--out", str(out)]
    command += ["--set", f"collect.source.uris=[{folder}]"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = Memory(process.pid)
    memory.start()
    code = process.wait()
    memory.ended = True
    if code:
        sys.exit(f"the build ended with {code}")
    return time.perf_counter() - started, memory


def tell_steps(out: Path, memory: Memory, images: int) -> None:
    """Print wall and CPU seconds of each phase, and where the CPU went."""
    cpu: collections.Counter[str] = collections.Counter()
    peaks: collections.Counter[str] = collections.Counter()
    wall: dict[str, float] = {}
    for event in read_events(out / "events.jsonl"):
        if event["kind"] == "phase-done":
            wall[event["phase"]] = event["seconds"]
        elif event["kind"] == "unit":
            cpu[event["phase"]] += event["cpu_seconds"]
            peaks[event["phase"]] = max(peaks[event["phase"]], event["peak_mib"])
    print("  step              wall s     CPU s   CPU ms an image   peak MiB of a worker")
    for phase, seconds in wall.items():
        share = cpu[phase] / images * 1e3
        print(f"  {phase:<14} {seconds:9.1f} {cpu[phase]:9.1f} {share:15.2f} {peaks[phase]:15d}")
    kinds, units = memory.cpu_by_kind(), sum(cpu.values())
    total = sum(kinds.values())
    print(f"CPU seconds of all processes {total:.1f}, of them in units of work {units:.1f}")
    around = kinds.get("workers", 0.0) - units
    for name, seconds in (
        ("workers outside of units: starting, importing", around),
        ("Ray's own processes", kinds.get("Ray's own processes", 0.0)),
        ("the driver", kinds.get("driver", 0.0)),
    ):
        print(f"  {name:<46} {seconds:7.1f} s {100 * seconds / total:5.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--recipe", default="web-demo")
    parser.add_argument("--keep")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.folder or SHARED.is_dir():
            folder = Path(options.folder) if options.folder else SHARED
        else:
            from trawl.demo.web import write_web

            write_web(Path(scratch) / "web", 0, 200, 32)
            folder = Path(scratch) / "web" / "warc"
        files = sorted(folder.glob("*.warc.gz"))
        pages, images, floor_seconds = floor(files)
        out = Path(options.keep or Path(scratch) / "corpus")
        seconds, memory = build(folder, out, options.recipe)
        print(f"{len(files)} WARC files, {pages} pages, {images} images, recipe {options.recipe}")
        print(f"floor (read, parse, decode; one core)  {floor_seconds:8.1f} s")
        print(f"trawl corpus build                     {seconds:8.1f} s", end="")
        print(f"  {pages / seconds:.1f} pages/s  {images / seconds:.1f} images/s")
        print(f"ratio to the floor                     {seconds / floor_seconds:8.1f}")
        print(f"peak memory of all processes           {memory.peak / 1e6:8.0f} MB")
        tell_steps(out, memory, images)


if __name__ == "__main__":
    main()
