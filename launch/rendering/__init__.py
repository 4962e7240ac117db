"""Rendering is pure: a job in, the texts that a place runs out, by file name. Nothing is read."""

import difflib
from pathlib import Path

from launch.job import Job
from launch.rendering import kubernetes, local, ray, slurm, ssh


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the texts that `submit` hands to the job's place; `folder` is the job's own."""
    forms = {
        "local": local.render,
        "ssh": ssh.render,
        "slurm": slurm.render,
        "kubernetes": kubernetes.render,
        "ray": ray.render,
    }
    return forms[job.place.backend](job, folder)


def difference(job: Job, folder: Path) -> str:
    """Return how `job`, and what is made of it, differ from what was last submitted in `folder`."""
    from trawl import recipe

    known = folder / "job.yaml"
    before = {"job.yaml": ""}
    now = {"job.yaml": recipe.dump(job), **render(job, str(folder))}
    if known.exists():
        last = recipe.load(known, Job)
        before = {"job.yaml": recipe.dump(last), **render(last, str(folder))}
    lines: list[str] = []
    for name in sorted(before.keys() | now.keys()):
        old, new = (side.get(name, "").splitlines(keepends=True) for side in (before, now))
        lines += difflib.unified_diff(old, new, f"submitted/{name}", f"now/{name}")
    return "".join(lines)
