"""Builds of small corpora through the command line, for the tests that look at what they leave."""

import os
import subprocess
import sys
from pathlib import Path

# What a build leaves that tells when and where it ran; everything else must be the same each time.
_OF_THE_RUN = ("attempts", "ledger", "work", "events.jsonl", "recipe.yaml")


def command(*arguments: str) -> list[str]:
    """Return the command line of `trawl corpus ...`."""
    return [sys.executable, "-m", "trawl", "corpus", *arguments]


def trawl_corpus(*arguments: str, code: int = 0) -> str:
    """Run `trawl corpus ...`, check its exit code, return what it printed on both streams."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def warc_build(out: str, *warcs: str | Path) -> list[str]:
    """Return the arguments of a build from WARC files."""
    uris = ", ".join(str(warc) for warc in warcs)
    changes = (f"collect.source.uris=[{uris}]", "collect.partitions=3", "compute.cpus=1")
    sets = [
        part
        for change in (*changes, "regions.unit=8", "shards.samples=6")
        for part in ("--set", change)
    ]
    return ["build", "web-demo", "--out", out, *sets]


def content(folder: str | Path) -> dict[str, bytes]:
    """Return the bytes of every file of a corpus that must not depend on how it was built."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in _OF_THE_RUN
    }


def ray_processes(mark: str) -> list[int]:
    """Return the processes of our Ray that have `mark` in their environment.

    Beside this test others may have a Ray of their own.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"trawl-ray-" in line and mark.encode() in environment:
                found.append(int(entry.name))
    return found
