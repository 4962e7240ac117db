"""Ray: a job for a running cluster, or KubeRay's RayJob, which makes a cluster for it."""

import json
import shlex
from typing import Any

import yaml

from launch.command import work_command
from launch.job import Job
from launch.rendering.kubernetes import metadata, pod, volumes_of


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the request that `ray job submit` makes, or the RayJob for `kubectl apply`."""
    entry = [job.place.python, "-m", *work_command(job), "--set", "compute.ray_address=auto"]
    if job.place.ray.address is not None:
        request = {"submission_id": job.name, "entrypoint": shlex.join(entry)}
        return {"request.json": json.dumps(request, indent=2) + "\n"}
    return {"objects.yaml": yaml.safe_dump(_ray_job(job, shlex.join(entry)), sort_keys=False)}


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
