"""The command lines of one machine's part of an attempt."""

from dataclasses import dataclass
from itertools import chain

from data_pipeline.cluster import OBJECT_STORE_BYTES
from launch.job import Evaluation, Job


@dataclass(frozen=True)
class Part:
    """Which machine of an attempt this is, and where they meet."""

    attempt: int = 1
    nodes: int = 1
    node: int = 0
    host: str = "127.0.0.1"
    """The first machine, as the others reach it."""
    job: str = ""
    """What all attempts of the job have in common, where they can fence each other off."""


ALONE = Part()


def work_command(job: Job, part: Part = ALONE) -> list[str]:
    """Return what a machine runs, without the interpreter and its `-m` before it."""
    changes = [word for change in job.run.changes for word in ("--set", change)]
    meet = f"{part.host}:{job.place.port}"
    if part.job:
        changes += ["--attempt", f"{part.job}:{part.attempt}"]
    if job.run.corpus is not None:
        joined = ["--set", f"compute.ray_address={meet}"] if part.nodes > 1 else []
        return ["trawl", "corpus", "build", job.run.corpus, *changes, *joined]
    if job.run.evaluate is not None:
        return evaluate_command(job.run.evaluate)
    ranks = ["--processes", str(job.place.ranks)]
    if part.nodes > 1:
        ranks += ["--nodes", str(part.nodes), "--node", str(part.node), "--meet", meet]
    return ["trawl", "pretrain", "run", str(job.run.pretrain), *ranks, *changes]


def evaluate_command(asked: Evaluation) -> list[str]:
    """Return what a machine runs for an evaluation, which writes nothing that needs a fence."""
    options = {"stage": asked.stage, "corpus": asked.corpus, "count": asked.count, "out": asked.out}
    given = [[f"--{name}", str(value)] for name, value in options.items() if value is not None]
    return ["trawl", "evaluate", asked.task, asked.target, *chain(*given)]


def ray_command(job: Job, part: Part, address: str) -> list[str]:
    """Return what a machine runs beside a corpus build on several: its part of their Ray cluster.

    `address` is where the others reach this machine: Ray itself would guess.
    """
    place = ["--head", "--port", str(job.place.port)]
    if part.node:
        place = ["--address", f"{part.host}:{job.place.port}"]
    size = ["--num-cpus", str(job.place.cpus)] if job.place.cpus else []
    size += ["--num-gpus", str(job.place.gpus)] if job.place.gpus else []
    size += ["--object-store-memory", str(OBJECT_STORE_BYTES), "--node-ip-address", address]
    quiet = ["--block", "--disable-usage-stats", "--include-dashboard=false"]
    return ["ray.scripts.scripts", "start", *place, *size, *(quiet if not part.node else quiet[:2])]
