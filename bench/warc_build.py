"""A whole corpus build over WARC files against the floor of reading, parsing and decoding them.

    python bench/warc_build.py [FOLDER]

FOLDER holds *.warc.gz; by default the test data beside the checkout, else a small web of our own.
Prints pages/s, images/s and peak memory (proportional set size of the whole process tree) of
`trawl corpus build`, and the ratio of its seconds to the floor's in the same run.
"""

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

    def run(self) -> None:
        while not self.ended:
            self.peak = max(self.peak, sum(map(_proportional, _tree(self.pid))))
            time.sleep(0.25)


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


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if "Pss:" in line), 0)


def build(folder: Path, out: Path) -> tuple[float, int]:
    """Build a corpus from the WARC files in `folder`; return seconds and peak bytes."""
    command = [sys.executable, "-m", "trawl", "corpus", "build", "web-demo", "--out", str(out)]
    command += ["--set", f"collect.source.uris=[{folder}]"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = Memory(process.pid)
    memory.start()
    code = process.wait()
    memory.ended = True
    if code:
        sys.exit(f"the build ended with {code}")
    return time.perf_counter() - started, memory.peak


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        if len(sys.argv) > 1 or SHARED.is_dir():
            folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED
        else:
            from trawl.demo.web import write_web

            write_web(Path(scratch) / "web", 0, 200, 32)
            folder = Path(scratch) / "web" / "warc"
        files = sorted(folder.glob("*.warc.gz"))
        pages, images, floor_seconds = floor(files)
        out = Path(scratch) / "corpus"
        seconds, peak = build(folder, out)
        print(f"{len(files)} WARC files, {pages} pages, {images} images")
        print(f"floor (read, parse, decode; one core)  {floor_seconds:8.1f} s")
        print(f"trawl corpus build                     {seconds:8.1f} s", end="")
        print(f"  {pages / seconds:.1f} pages/s  {images / seconds:.1f} images/s")
        print(f"ratio to the floor                     {seconds / floor_seconds:8.1f}")
        print(f"peak memory of all processes           {peak / 1e6:8.0f} MB")
        for event in read_events(out / "events.jsonl"):
            if event["kind"] == "phase-done":
                print(f"  {event['phase']:<14} {event['seconds']:8.1f} s")


if __name__ == "__main__":
    main()
