"""Ray: a job for a running cluster, or KubeRay's RayJob, which makes a cluster for it."""

import json
import shlex
from typing import Any

import yaml

from launch.command import ALONE, Part, work_command
from launch.job import Job
from launch.rendering.kubernetes import metadata, name_of, pod, queued, volumes_of


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the request that `ray job submit` makes, or the RayJob for `kubectl apply`."""
    if job.place.ray.address is not None:
        return {"request.json": json.dumps(request(job), indent=2) + "\n"}
    return {"objects.yaml": yaml.safe_dump(ray_job(job), sort_keys=False)}


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


def object_name(job: Job, part: Part = ALONE) -> str:
    """Return the name of the RayJob that is an attempt."""
    return f"{name_of(job)}-{part.attempt}" if part.job else name_of(job)


def ray_job(job: Job, part: Part = ALONE) -> dict[str, Any]:
    """Return a RayJob (v1) whose head is one of the job's machines.

    KubeRay makes no other of one that fails: whether there is another attempt is not its to say.
    """
    asked = request(job, part)
    cluster: dict[str, Any] = {
        "rayVersion": job.place.ray.version,
        "headGroupSpec": {"rayStartParams": {}, "template": _machine(job)},
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
                "template": _machine(job),
            }
        ]
    specification = {
        "jobId": asked["submission_id"],
        "entrypoint": asked["entrypoint"],
        "shutdownAfterJobFinishes": True,
        "backoffLimit": 0,
        "rayClusterSpec": cluster,
    }
    return _object(job, object_name(job, part), specification)


def stop_job(job: Job, part: Part, cluster: str) -> dict[str, Any]:
    """Return a RayJob that tells the parts of an attempt, on its own cluster, to save and end."""
    asked = stop_request(job, str(request(job, part)["submission_id"]))
    specification = {
        "jobId": asked["submission_id"],
        "entrypoint": asked["entrypoint"],
        "clusterSelector": {"ray.io/cluster": cluster},
    }
    return _object(job, f"{object_name(job, part)}-stop", specification)


def _machine(job: Job) -> dict[str, Any]:
    return {"metadata": {"labels": _labels(job)}, "spec": pod(job, {}, volumes_of(job))}


def _labels(job: Job) -> dict[str, str]:
    labels: dict[str, str] = metadata(job)["labels"]
    return labels


def _object(job: Job, name: str, specification: dict[str, Any]) -> dict[str, Any]:
    named = queued(job) | {"name": name}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": named,
        "spec": specification,
    }
