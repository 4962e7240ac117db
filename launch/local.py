"""The local place: a supervisor in the background, known by its process id."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from launch.job import Job
from trawl import recipe, storage
from trawl.errors import RequestError
from trawl.events import read_events


def submit(job: Job, folder: Path) -> int:
    """Start `job` in the background with its state in `folder`; return the supervisor's id."""
    if running(folder) is not None:
        raise RequestError(f"{folder}: job {job.name} is running; stop it first")
    storage.write_text(folder / "job.yaml", recipe.dump(job))
    storage.remove(folder / "pid")
    with (folder / "supervisor.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "launch.supervise", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not (folder / "pid").exists() and started.poll() is None:
        time.sleep(0.02)
    return started.pid


def running(folder: Path) -> int | None:
    """Return the process id of the job's supervisor, or None if it does not run."""
    try:
        pid = int((folder / "pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(folder).encode() in words else None


def status(folder: Path) -> tuple[str, int, str]:
    """Return the job's state (running, lost or a cause of ending), its attempts, its last event."""
    if not (folder / "job.yaml").exists():
        raise RequestError(f"{folder}: no job here; submit one first")
    events = list(read_events(folder / "events.jsonl"))
    attempts = max((event.get("attempt", 0) for event in events), default=0)
    last = events[-1] if events else {"kind": "submitted"}
    if running(folder) is not None:
        return "running", attempts, last["kind"]
    return (last["cause"] if last["kind"] == "job-ended" else "lost"), attempts, last["kind"]


def logs(folder: Path) -> str:
    """Return what the newest attempt printed."""
    _, attempts, _ = status(folder)
    path = folder / f"attempt-{attempts}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def stop(folder: Path) -> None:
    """Tell the job to save and end, and return when it has."""
    pid = running(folder)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    while running(folder) is not None:
        time.sleep(0.05)
