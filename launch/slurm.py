"""The place Slurm: a batch job that queues itself again, known by its number."""

import subprocess
import time
from pathlib import Path

from launch import attempts
from launch.job import Job
from launch.rendering.slurm import SCRIPT, render
from trawl import storage
from trawl.errors import RequestError, WorkError
from trawl.events import EventLog

_POLL_SECONDS = 0.5
_LOOKS = 10
# States in which Slurm runs a job, or still means to; of an array's tasks the first one counts.
LIVE = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STAGE_OUT", "REQUEUED", "PENDING")


def submit(job: Job, folder: Path) -> str:
    """Queue `job` with its state in `folder`, which the machines share; return its number.

    RequestError if it runs already, or Slurm refuses it.
    """
    if state := running(folder):
        raise RequestError(f"{folder}: job {job.name} is {state}; stop it first")
    for name, text in render(job, str(folder)).items():
        storage.write_text(folder / name, text)
    attempts.submit(folder, job)  # before it is queued: it may start at once
    number = ask("sbatch", "--parsable", str(folder / SCRIPT)).split(";")[0].strip()
    with EventLog(folder / attempts.EVENTS) as events:
        events.write("queued", slurm=number)
    return f"Slurm job {number}"


def number_of(folder: Path) -> str | None:
    """Return the Slurm job of the newest submission, if Slurm took it."""
    queued = (e for e in attempts.since_submission(folder) if e["kind"] == "queued")
    return next((str(event["slurm"]) for event in queued), None)


def running(folder: Path) -> str | None:
    """Say what Slurm is doing with the job, in its own word, or None if it is over."""
    number = number_of(folder)
    if number is None:
        return None
    # Between two attempts Slurm may for a moment call the job ended.
    for _ in range(_LOOKS):
        live = [word for word in LIVE if word in words_for(number)]
        if live:
            return live[0].lower()
        if attempts.was_told(folder, "job-ended"):
            break
        time.sleep(_POLL_SECONDS)
    return None


def words_for(number: str) -> list[str]:
    """Return Slurm's words for a job, of an array those for its tasks.

    There are none for one that it has forgotten, minutes after its end.
    """
    try:
        said = ask("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={number}")
    except WorkError as error:
        if "Invalid job id" in str(error):
            return []
        raise
    return said.split()


def stop(folder: Path) -> None:
    """Tell the job to save and end, and not to be queued again; return when it has ended."""
    number = number_of(folder)
    if number is None or running(folder) is None:
        return
    with EventLog(folder / attempts.EVENTS) as events:
        events.write("stop-asked", slurm=number)
    words = words_for(number)
    if "PENDING" in words:
        ask("scancel", "--state=PENDING", number)
    if words != ["PENDING"]:
        ask("scancel", "--batch", "--signal=TERM", number)
    while running(folder) is not None:
        time.sleep(_POLL_SECONDS)


def ask(*words: str) -> str:
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
