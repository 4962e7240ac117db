"""The place Slurm: a batch job that queues itself again, known by its number."""

import subprocess
import time
from pathlib import Path

from launch import attempts
from launch.job import Job
from launch.rendering import render
from trawl import storage
from trawl.errors import RequestError, WorkError
from trawl.events import EventLog, read_events

SCRIPT = "job.sbatch"
_POLL_SECONDS = 0.5
_LOOKS = 10
# States in which Slurm still means to run a job or runs it.
_LIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "STAGE_OUT")


def submit(job: Job, folder: Path) -> str:
    """Queue `job` with its state in `folder`, which the machines share; return its number.

    RequestError if it runs already, or Slurm refuses it.
    """
    if state := running(folder):
        raise RequestError(f"{folder}: job {job.name} is {state}; stop it first")
    for name, text in render(job, str(folder)).items():
        storage.write_text(folder / name, text)
    attempts.submit(folder, job)  # before it is queued: it may start at once
    number = _slurm("sbatch", "--parsable", str(folder / SCRIPT)).split(";")[0].strip()
    with EventLog(folder / attempts.EVENTS) as events:
        events.write("queued", slurm=number)
    return f"Slurm job {number}"


def number_of(folder: Path) -> str | None:
    """Return the Slurm job of the newest submission."""
    found = None
    for event in read_events(folder / attempts.EVENTS):
        if event["kind"] == "queued":
            found = str(event["slurm"])
    return found


def running(folder: Path) -> str | None:
    """Say what Slurm is doing with the job, in its own word, or None if it is over."""
    number = number_of(folder)
    for look in range(_LOOKS if number is not None else 0):
        state = _state(str(number))
        if state in _LIVE:
            return state.lower()
        # Between two attempts Slurm may for a moment call the job ended.
        if _is_told_to_be_over(folder):
            return None
        time.sleep(_POLL_SECONDS * bool(_LOOKS - 1 - look))
    return None


def _state(number: str) -> str:
    """Return Slurm's word for a job; none for one that it has forgotten, minutes after its end."""
    try:
        said = _slurm("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={number}")
    except WorkError as error:
        if "Invalid job id" in str(error):
            return ""
        raise
    return said.split()[0] if said.split() else ""


def _is_told_to_be_over(folder: Path) -> bool:
    """Whether the script of the newest submission wrote that the job has ended."""
    over = False
    for event in read_events(folder / attempts.EVENTS):
        if event["kind"] in ("submitted", "job-ended"):
            over = event["kind"] == "job-ended"
    return over


def stop(folder: Path) -> None:
    """Tell the job to save and end, and not to be queued again; return when it has ended."""
    number = number_of(folder)
    if number is None or running(folder) is None:
        return
    with EventLog(folder / attempts.EVENTS) as events:
        events.write("stop-asked", slurm=number)
    if running(folder) == "pending":
        _slurm("scancel", number)
    else:
        _slurm("scancel", "--batch", "--signal=TERM", number)
    while running(folder) is not None:
        time.sleep(_POLL_SECONDS)


def _slurm(*words: str) -> str:
    """Run one of Slurm's commands and return what it prints."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RequestError(
            f"{words[0]} is not on this machine; submit where Slurm's commands are"
        ) from error
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
    fault = RequestError if words[0] == "sbatch" else WorkError
    raise fault(f"{words[0]}: {said}")
