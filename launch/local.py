"""The local place: a supervisor in the background, known by its process id."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from launch import attempts
from launch.job import Job
from trawl import storage
from trawl.errors import RequestError


def submit(job: Job, folder: Path) -> str:
    """Start `job` in the background with its state in `folder`; return who supervises it."""
    if running(folder):
        raise RequestError(f"{folder}: job {job.name} is running; stop it first")
    attempts.submit(folder, job)
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
    return f"process {started.pid}"


def supervisor(folder: Path) -> int | None:
    """Return the process id of the job's supervisor, or None if it does not run."""
    try:
        pid = int((folder / "pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(folder).encode() in words else None


def running(folder: Path) -> str | None:
    """Say how the job runs now, or None if it does not."""
    return "running" if supervisor(folder) is not None else None


def stop(folder: Path) -> None:
    """Tell the job to save and end, and return when it has."""
    pid = supervisor(folder)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    while supervisor(folder) is not None:
        time.sleep(0.05)
