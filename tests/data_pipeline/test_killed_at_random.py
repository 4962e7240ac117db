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
from trawl.events import read_events

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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The files of a build that nobody disturbed, and the seconds that it took."""
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    started = time.monotonic()
    trawl_corpus(*warc_build(str(out), small_web() / "warc" / "07.warc.gz"))
    return content(out), time.monotonic() - started


@pytest.mark.soak
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_build_with_a_kill_ends_with_the_same_bytes(
    moment: int, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    expected, duration = undisturbed
    victim = VICTIMS[moment % len(VICTIMS)]
    seconds = float(chance.generator("killed-at-random", moment).uniform(0.05, 0.9)) * duration
    arguments = warc_build(str(tmp_path / "corpus"), small_web() / "warc" / "07.warc.gz")
    killed, code, errors = kill_after(arguments, seconds, victim)
    assert "Traceback" not in errors, errors
    if victim == "raylet" and code:  # one that dies while Ray starts is replaced
        assert code == 1
        assert "run the same command again" in errors
    if killed and victim == "driver":
        assert code == -signal.SIGKILL
    if code:
        trawl_corpus(*arguments)
    assert content(tmp_path / "corpus") == expected
    events = [event["kind"] for event in read_events(tmp_path / "corpus" / "events.jsonl")]
    print(f"{victim} after {seconds:.1f} s: {'killed' if killed else 'too late'}, {events[-1]}")


def test_a_build_whose_raylet_dies_says_so_in_a_line_and_goes_on(tmp_path: Path) -> None:
    arguments = warc_build(str(tmp_path / "corpus"), small_web() / "warc" / "07.warc.gz")
    begun = tmp_path / "corpus" / "ledger"
    killed, code, errors = kill_after(arguments, 0.0, "raylet", begun)
    assert killed
    told = [line for line in errors.splitlines() if line.startswith("trawl:")]
    assert (code, len(told)) == (1, 1), errors
    assert "raylet has died" in told[0]
