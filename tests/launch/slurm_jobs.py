"""Jobs for the two-node Slurm of the tests, and what the tests do with them."""

import sys
from pathlib import Path

from launch import slurm, state
from launch.job import Job, Work
from launch.place import Place
from tests.cluster.slurm import Slurm
from tests.launch.watching import wait_until

ROOT = Path(__file__).parents[2]


def job(name: str, work: Work, **place: object) -> Job:
    """A job for Slurm, run from this tree."""
    where = {"backend": "slurm", "python": sys.executable, "folder": str(ROOT), **place}
    return Job(name=name, run=work, place=Place.model_validate(where), grace_seconds=60)


def wait_for_end(folder: Path) -> str:
    """Wait until Slurm is done with the job; how it ended."""
    wait_until(lambda: slurm.running(folder) is None, folder)
    return state.state_of(folder).now


def start_again_at_once(cluster: Slurm, folder: Path) -> None:
    """Wait until the job is queued again, and spare it the two minutes for which Slurm holds it.

    Not at once: Slurm tells by whole seconds whether a node's permit is older than its withdrawal.
    """
    number = slurm.numbers_of(folder)[-1]
    wait_until(lambda: slurm.running(folder) == "pending", folder)
    cluster.run("scontrol", "update", f"jobid={number}", "starttime=now+3")
