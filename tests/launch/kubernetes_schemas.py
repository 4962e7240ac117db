"""What is rendered for Kubernetes, held against the published schemas.

Core kinds: the JSON schemas of Kubernetes 1.34, strict, as kubernetes-validate ships them. JobSet:
Kubeflow's models of v1alpha2, generated from its OpenAPI. RayJob: no package ships KubeRay's, so
its fields are listed here, as ray.io/v1 has them (KubeRay 1.4), and its pods are held against
Kubernetes' schema.
"""

from typing import Any

import kubernetes_validate as validate
from kubeflow_trainer_api import models

VERSION = "1.34"
_RAY_JOB = {
    "jobId": str,
    "entrypoint": str,
    "clusterSelector": dict,
    "shutdownAfterJobFinishes": bool,
    "backoffLimit": int,
    "rayClusterSpec": dict,
}
_RAY_GROUP = {
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "rayStartParams": dict,
    "template": dict,
}


def fault(content: dict[str, Any]) -> str | None:
    """Return what a server would refuse of an object, None if nothing."""
    if content["kind"] == "JobSet":
        return _job_set_fault(content)
    if content["kind"] == "RayJob":
        return _ray_job_fault(content)
    try:
        validate.validate(content, VERSION, strict=True)
    except validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return None


def _job_set_fault(content: dict[str, Any]) -> str | None:
    try:
        read = models.JobsetV1alpha2JobSet.from_dict(content)
    except ValueError as error:
        return str(error)
    # A field that the model does not know is gone from what it writes.
    if read.to_dict() != content:
        return f"unknown fields: {read.to_dict()} of {content}"
    for job in content["spec"]["replicatedJobs"]:
        whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, **job["template"]}
        if found := fault(whole):
            return found
    return None


def _ray_job_fault(content: dict[str, Any]) -> str | None:
    if content["apiVersion"] != "ray.io/v1":
        return f"apiVersion {content['apiVersion']}"
    specification = content["spec"]
    cluster = specification.get("rayClusterSpec")
    if (cluster is None) == ("clusterSelector" not in specification):
        return "one of rayClusterSpec and clusterSelector"
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])] if cluster else []
    for known, part in [(_RAY_JOB, specification), *((_RAY_GROUP, group) for group in groups)]:
        for name, value in part.items():
            if not isinstance(value, known.get(name, type(None))):
                return f"{name}: {value!r}"
    for group in groups:
        template = {"metadata": {}, **group["template"]}
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        if found := fault(pod):
            return found
    return None
