"""The place Slurm: a batch job that queues itself again, known by its number."""

import os
import subprocess
import sys
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
_OF_CLIENTS = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS")
_IN_USE = ("idle", "allocated", "mixed", "completing", "reserved", "planned")
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
    return f"Slurm job {_queue(folder)}"


def _queue(folder: Path, *options: str) -> str:
    """Hand the batch script to Slurm; returns the number of the Slurm job."""
    words = ["sbatch", "--parsable", *options, str(folder / SCRIPT)]
    number = ask(*words).split(";")[0].strip()
    with EventLog(folder / attempts.EVENTS) as events:
        events.write("queued", slurm=number)
    return number


def queue_elsewhere(folder: Path, hosts: list[str], *options: str) -> bool:
    """Queue the job's script anew, for machines other than `hosts`; False if that cannot be.

    Slurm lets nobody exclude machines from a job that is not pending, as one is that ends.
    """
    place = attempts.job_of(folder).place
    least = 1 if place.is_array else place.least_nodes or place.nodes
    bad = sorted({*place.exclude, *hosts})
    try:
        if len(_usable(place.slurm.partition) - set(bad)) < least:
            return False
        _queue(folder, f"--exclude={','.join(bad)}", *options)
    except (RequestError, WorkError) as error:
        print(f"trawl: {', '.join(hosts)} cannot be excluded: {error}", file=sys.stderr)
        return False
    return True


def _usable(partition: str | None) -> set[str]:
    """Return the nodes that Slurm has in use or may use."""
    chosen = [f"--partition={partition}"] if partition else []
    lines = ask("sinfo", "--noheader", "--Node", "--format=%N %T", *chosen).splitlines()
    states = dict(line.split() for line in lines)
    # A sign behind the state tells of power, but for `*`: that the node does not respond.
    return {name for name, state in states.items() if state.rstrip("~#%-^@") in _IN_USE}


def is_cancelled() -> bool:
    """Say whether somebody has cancelled the Slurm job, or the task of an array, that this runs in.

    Slurm tells of a job that it ends no more than that, and for what reason: none is a person's
    will, or its own to queue it again. In both cases nobody else is to do that.
    """
    number = os.environ.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        number = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if number is None:
        return False
    try:
        told = ask("scontrol", "--oneliner", "show", "job", number).split()
    except WorkError:  # the controller is away for a moment: that must not end the job
        return False
    preempted = any(word.startswith("PreemptTime=2") for word in told)
    return "JobState=COMPLETING" in told and "Reason=None" in told and not preempted


def hosts_of_this_job() -> list[str]:
    """Return the nodes of the Slurm job that this runs in, in the order of their numbers."""
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    return ask("scontrol", "show", "hostnames", nodes).split() if nodes else []


def numbers_of(folder: Path) -> list[str]:
    """Return the Slurm jobs of the newest submission, oldest first; none if Slurm took none."""
    told = attempts.since_submission(folder)
    return [str(event["slurm"]) for event in told if event["kind"] == "queued"]


def running(folder: Path) -> str | None:
    """Say what Slurm is doing with the job, in its own word, or None if it is over."""
    numbers = numbers_of(folder)
    if not numbers:
        return None
    # Between two attempts Slurm may for a moment call the job ended.
    for _ in range(_LOOKS):
        words = words_for(*numbers)
        live = [word for word in LIVE if word in words]
        if live:
            return live[0].lower()
        if attempts.was_told(folder, "job-ended"):
            return None
        time.sleep(_POLL_SECONDS)
    if "CANCELLED" in words and not attempts.was_told(folder, "stop-asked"):
        with EventLog(folder / attempts.EVENTS) as events:
            events.write("job-ended", cause="cancelled", code=None)
    return None


def words_for(*numbers: str) -> list[str]:
    """Return Slurm's words for jobs, of an array those for its tasks.

    There are none for one that it has forgotten, minutes after its end.
    """
    chosen = f"--jobs={','.join(numbers)}"
    try:
        said = ask("squeue", "--noheader", "--states=all", "--format=%T", chosen)
    except WorkError as error:
        if "Invalid job id" in str(error):
            return []
        raise
    return said.split()


def stop(folder: Path) -> None:
    """Tell the job to save and end, and not to be queued again; return when it has ended."""
    numbers = numbers_of(folder)
    if running(folder) is None:
        return
    with EventLog(folder / attempts.EVENTS) as events:
        events.write("stop-asked", slurm=numbers[-1])
    cancel_waiting(folder)
    if {"RUNNING", "SUSPENDED"} & set(words_for(*numbers)):
        ask("scancel", "--batch", "--signal=TERM", *numbers)
    while running(folder) is not None:
        time.sleep(_POLL_SECONDS)


def cancel_waiting(folder: Path) -> None:
    """Take out of the queue what has not begun, as tasks of an array whose job is over."""
    numbers = numbers_of(folder)
    if numbers and "PENDING" in words_for(*numbers):
        ask("scancel", "--state=PENDING", *numbers)


def ask(*words: str) -> str:
    """Run one of Slurm's commands and return what it prints."""
    environment = dict(os.environ)
    if "SLURM_JOB_ID" in environment:  # the options of this job are none of another's
        known = [key for key in environment if key.startswith("SLURM_") and key not in _OF_CLIENTS]
        for key in known:
            del environment[key]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise RequestError(
            f"{words[0]} is not on this machine; submit where Slurm's commands are"
        ) from error
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
    fault = RequestError if words[0] == "sbatch" else WorkError
    raise fault(f"{words[0]}: {said}")
