"""Workers, drivers and raylets killed with -9 at twenty random moments: always the same corpus."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data_pipeline.builds import command, content, trawl_corpus, warc_build
from tests.trawl.demo.small_web import small_web
from trawl import chance

MOMENTS = 20
VICTIMS = ("worker", "driver", "raylet")


def tree(root: int) -> dict[int, str]:
    """Return the descendants of a process, itself among them, with their command lines."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            lines[int(entry.name)] = line
    found, front = {root}, {root}
    while front:
        front = {pid for pid, parent in parents.items() if parent in front} - found
        found |= front
    return {pid: lines.get(pid, "") for pid in found}


IS_VICTIM: dict[str, Callable[[str], bool]] = {
    "worker": lambda line: line.startswith("ray::"),
    "raylet": lambda line: "/raylet/raylet " in line,
    "driver": lambda line: " trawl corpus build " in line,
}


def kill_after(
    arguments: list[str], seconds: float, victim: str, begun: Path | None = None
) -> tuple[bool, int, str]:
    """Start a build and kill `victim` after `seconds`, or as soon as there is one and `begun`.

    Returns whether it came to that, the exit code of the build, and what it wrote on stderr.
    """
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    due = time.monotonic() + seconds
    killed = False
    while process.poll() is None and not killed:
        time.sleep(0.02)
        if time.monotonic() >= due and (begun is None or begun.exists()):
            lines = tree(process.pid)
            victims = sorted(pid for pid, line in lines.items() if IS_VICTIM[victim](line))
            if victims:
                os.kill(victims[-1], signal.SIGKILL)
                killed = True
    errors = process.communicate()[1]
    return killed, process.returncode, errors


@pytest.mark.soak
def test_builds_that_are_killed_twenty_times_end_with_the_same_bytes(tmp_path: Path) -> None:
    """Each build is killed again and again until it is done; then another begins."""
    warc = small_web() / "warc" / "07.warc.gz"
    started = time.monotonic()
    trawl_corpus(*warc_build(str(tmp_path / "undisturbed"), warc))
    duration = time.monotonic() - started
    expected = content(tmp_path / "undisturbed")
    kills = builds = starts = 0
    while kills < MOMENTS:
        builds += 1
        arguments = warc_build(str(tmp_path / str(builds)), warc)
        code = None
        while code != 0:
            starts += 1
            victim = VICTIMS[kills % len(VICTIMS)]
            share = float(chance.generator("killed-at-random", starts).uniform(0.05, 0.7))
            killed, code, errors = kill_after(arguments, share * duration, victim)
            kills += killed
            told = [line for line in errors.splitlines() if line.startswith("trawl:")]
            print(f"build {builds}: {victim} after {share * duration:.1f} s", killed, code, told)
            assert "Traceback" not in errors, errors
            if victim == "raylet" and code:  # one that dies while Ray starts is replaced
                assert (code, len(told)) == (1, 1), errors
            elif victim == "driver" and killed:
                assert code == -signal.SIGKILL
            else:
                assert code == 0, errors
        assert content(tmp_path / str(builds)) == expected
        print(f"build {builds} is whole after {starts} starts and {kills} kills", flush=True)


@pytest.mark.slow
def test_a_build_whose_raylet_dies_says_so_in_a_line(tmp_path: Path) -> None:
    arguments = warc_build(str(tmp_path / "corpus"), small_web() / "warc" / "07.warc.gz")
    begun = tmp_path / "corpus" / "ledger"
    killed, code, errors = kill_after(arguments, 0.0, "raylet", begun)
    assert killed
    told = [line for line in errors.splitlines() if line.startswith("trawl:")]
    assert (code, len(told)) == (1, 1), errors
    assert "raylet has died" in told[0]
