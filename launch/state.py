"""How a job is, by what its folder and its place tell."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from launch import attempts, kubernetes, local, ray_jobs, slurm, ssh
from launch.job import Job
from trawl.errors import RequestError
from trawl.events import read_events

_PLACES: dict[str, ModuleType] = {
    "kubernetes": kubernetes,
    "local": local,
    "ray": ray_jobs,
    "slurm": slurm,
    "ssh": ssh,
}


@dataclass(frozen=True)
class State:
    """How a job is.

    now: what its place does with it, or how it ended, or "lost" where its place knows nothing of it
    and nobody wrote of its end. last: the kind of the last event.
    """

    now: str
    attempt: int
    last: str


def place_of(job: Job) -> ModuleType:
    """Return the module that submits to the job's place; RequestError where there is none yet."""
    if job.place.backend not in _PLACES:
        raise RequestError(
            f"place.backend {job.place.backend}: is rendered and not submitted; hand over what "
            f"--dry-run prints, or choose one of {', '.join(_PLACES)}"
        )
    return _PLACES[job.place.backend]


def state_of(folder: Path) -> State:
    """Return how the job in `folder` is; RequestError if there is none."""
    job = attempts.job_of(folder)
    now = place_of(job).running(folder)  # which may write down what it learns
    *_, last = read_events(folder / attempts.EVENTS)
    if now is None:
        now = str(last["cause"]) if last["kind"] == "job-ended" else "lost"
        if last["kind"] == "stop-asked":
            now = "stopped"
    return State(now, attempts.newest(folder), last["kind"])
