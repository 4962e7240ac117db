"""Ray: a job for a running cluster, or KubeRay's RayJob, which makes a cluster for it."""

import json
import shlex
from typing import Any

import yaml

from launch.command import ALONE, Part, work_command
from launch.job import Job
from launch.rendering.kubernetes import metadata, pod, volumes_of


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the request that `ray job submit` makes, or the RayJob for `kubectl apply`."""
    if job.place.ray.address is not None:
        return {"request.json": json.dumps(request(job), indent=2) + "\n"}
    entry = str(request(job)["entrypoint"])
    return {"objects.yaml": yaml.safe_dump(_ray_job(job, entry), sort_keys=False)}


def request(job: Job, part: Part = ALONE) -> dict[str, str]:
    """Return the request for a Ray job that is an attempt."""
    name = f"{job.name}-{part.job}-{part.attempt}" if part.job else job.name
    work, place = work_command(job, part), job.place
    lines = [f"cd {shlex.quote(place.folder)}"] if place.folder else []
    lines += place.setup
    if job.run.corpus is not None:
        work += ["--set", "compute.ray_address=auto"]
    else:
        work = spread(job, name, work)
    entry = shlex.join([place.python, "-m", *work])
    return {"submission_id": name, "entrypoint": " && ".join([*lines, entry])}


def spread(job: Job, name: str, work: list[str]) -> list[str]:
    """Return the words that run `python -m WORK` on each machine, as the Ray job `name`."""
    place = job.place
    size = ["--nodes", str(place.nodes), "--least", str(place.least_nodes or place.nodes)]
    size += ["--cpus", str(place.cpus or 1), "--gpus", str(place.gpus)]
    size += ["--port", str(place.port), "--grace", f"{job.grace_seconds:g}"]
    size += ["--python", place.python]
    # What goes before the work on this machine goes before it on each.
    size += ["--folder", place.folder] if place.folder else []
    size += [word for line in place.setup for word in ("--setup", line)]
    return ["launch.ray_nodes", "--name", name, *size, "--", *work]


def stop_request(job: Job, name: str) -> dict[str, str]:
    """Return the request for a Ray job that tells the parts of the job `name` to end."""
    place = job.place
    lines = [f"cd {shlex.quote(place.folder)}"] if place.folder else []
    words = [place.python, "-m", "launch.ray_nodes", "--name", name, "--stop"]
    return {
        "submission_id": f"{name}-stop",
        "entrypoint": " && ".join([*lines, *place.setup, shlex.join(words)]),
    }


def _ray_job(job: Job, entry: str) -> dict[str, Any]:
    """Return a RayJob (v1) whose head is one of the job's machines."""
    cluster: dict[str, Any] = {
        "rayVersion": job.place.ray.version,
        "headGroupSpec": {
            "rayStartParams": {},
            "template": {"spec": pod(job, {}, volumes_of(job))},
        },
    }
    if job.place.nodes > 1:
        workers = job.place.nodes - 1
        cluster["workerGroupSpecs"] = [
            {
                "groupName": "workers",
                "replicas": workers,
                "minReplicas": (job.place.least_nodes or job.place.nodes) - 1,
                "maxReplicas": workers,
                "rayStartParams": {},
                "template": {"spec": pod(job, {}, volumes_of(job))},
            }
        ]
    specification = {
        "entrypoint": entry,
        "shutdownAfterJobFinishes": True,
        "backoffLimit": job.retry.bad_node,
        "rayClusterSpec": cluster,
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata(job),
        "spec": specification,
    }
