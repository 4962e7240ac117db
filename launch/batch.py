"""What a batch script asks before and after an attempt, since it may run on any machine.

python -m launch.batch begin FOLDER --nodes 2     prints the number of the attempt
python -m launch.batch end FOLDER --attempt 3 --nodes 2     ends with 0 if there is another
python -m launch.batch again FOLDER --task 7 --code 71     ends with 0 if the task is to come back

A job that lost a machine twice comes back as another, which excludes it.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from launch import attempts, slurm
from launch.blame import bad_hosts
from launch.meeting import own_name
from launch.progress import progress_of
from pretrain.exit_codes import ExitCode
from trawl.errors import RequestError
from trawl.events import EventLog

_NO_MORE = 3


def begin(folder: Path, nodes: int) -> int:
    """Print the number of the attempt that begins on `nodes` machines, if one may."""
    number = attempts.newest(folder) + 1
    hosts = slurm.hosts_of_this_job()
    place = {"nodes": nodes, "hosts": hosts, "slurm": os.environ.get("SLURM_JOB_ID")}
    if not attempts.begin(folder, number, progress_of(attempts.job_of(folder)), **place):
        print("trawl: no retries are left; see the events", file=sys.stderr)
        return _NO_MORE
    print(number)
    return 0


def end(folder: Path, number: int, nodes: int) -> int:
    """Write how the attempt ended; 0 if there is to be another."""
    job = attempts.job_of(folder)
    code = attempts.code_told(folder, number, nodes)
    progress = progress_of(job)
    stopped = attempts.was_told(folder, "stop-asked")
    again = attempts.end(folder, number, code, progress, stopped=stopped)
    if not again or slurm.is_cancelled():
        return _NO_MORE
    bad = bad_hosts(folder)
    had_one = not set(bad).isdisjoint(slurm.hosts_of_this_job())
    return _NO_MORE if had_one and slurm.queue_elsewhere(folder, bad) else 0


def again(folder: Path, task: int, code: int) -> int:
    """Write how a task of an array ended; 0 if it is to be queued again as it is.

    Like attempts, those count that ended when the build was no further than the time before.
    """
    if any(attempts.was_told(folder, kind) for kind in ("job-ended", "stop-asked")):
        slurm.cancel_waiting(folder)
        return _NO_MORE
    if slurm.is_cancelled():
        return _NO_MORE
    job = attempts.job_of(folder)
    stopped = code in (ExitCode.PREEMPTED, 128 + signal.SIGTERM)
    cause = attempts.cause_of(ExitCode.PREEMPTED if stopped else ExitCode.BAD_NODE)
    with EventLog(folder / attempts.EVENTS) as events:
        told = {"host": own_name(), "code": code, "cause": cause, "progress": progress_of(job)}
        events.write("task-ended", task=task, **told)
    ended = [
        attempts.Attempt(number, event["cause"], event["progress"])
        for number, event in enumerate(attempts.since_submission(folder))
        if event["kind"] == "task-ended" and event["task"] == task
    ]
    if not attempts.may_go_on(job.retry, ended):
        return _NO_MORE
    bad, only = bad_hosts(folder), f"--array={task}"
    elsewhere = own_name() in bad and slurm.queue_elsewhere(folder, bad, only)
    return _NO_MORE if elsewhere else 0


def main(arguments: list[str] | None = None) -> int:
    """Answer what the command line asks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m launch.batch", description=__doc__)
    parser.add_argument("when", choices=["begin", "end", "again"])
    parser.add_argument("folder", type=Path, help="the job's folder")
    parser.add_argument("--attempt", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--task", type=int, default=0)
    parser.add_argument("--code", type=int, default=0)
    asked = parser.parse_args(arguments)
    try:
        if asked.when == "begin":
            return begin(asked.folder, asked.nodes)
        if asked.when == "again":
            return again(asked.folder, asked.task, asked.code)
        return end(asked.folder, asked.attempt, asked.nodes)
    except RequestError as error:
        print(f"trawl: {error}", file=sys.stderr)
        return ExitCode.USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
