"""Kubernetes: an Indexed Job or a JobSet whose pods are the machines of an attempt."""

import math
from dataclasses import dataclass
from typing import Any

import yaml

from launch.job import Job, Secret
from pretrain.exit_codes import ExitCode
from trawl import recipe

JOB_FILE = "/etc/trawl"
STATE = "/var/lib/trawl"
# A pod that ends so is not started anew; those that are preempted or on a bad machine are.
_FINAL = (
    ExitCode.USER_ERROR,
    ExitCode.DATA_ERROR,
    ExitCode.NUMERICS,
)
_DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
_PREEMPTIONS = 1000  # Kubernetes wants a number; a preemption that counts is one of the pod itself


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the objects for `kubectl apply`: the job file, a service for names, and the job."""
    objects = [_job_file(job), _service(job)]
    objects.append(_job_set(job) if job.place.kubernetes.kind == "jobset" else _indexed_job(job))
    return {"objects.yaml": yaml.safe_dump_all(objects, sort_keys=False)}


@dataclass(frozen=True)
class Volume:
    """A volume and where a container sees it."""

    name: str
    path: str
    source: dict[str, Any]

    def mount(self) -> dict[str, Any]:
        """Return the container's side of it."""
        return {"name": self.name, "mountPath": self.path}


def volumes_of(job: Job) -> list[Volume]:
    """Return the job's claims, and memory that its processes share."""
    claims = sorted(job.place.kubernetes.claims.items())
    return [
        Volume("memory", "/dev/shm", {"emptyDir": {"medium": "Memory"}}),
        *(
            Volume(f"claim-{number}", path, {"persistentVolumeClaim": {"claimName": claim}})
            for number, (path, claim) in enumerate(claims)
        ),
    ]


def pod(job: Job, container: dict[str, Any], volumes: list[Volume]) -> dict[str, Any]:
    """Return a pod that is a machine of the job; `container` has what is its own."""
    place, kubernetes = job.place, job.place.kubernetes
    assert place.container is not None  # a Place for pods has one
    size = given({"cpu": place.cpus, "nvidia.com/gpu": place.gpus or None})
    environment = [*container.pop("env", []), *(_secret(secret) for secret in job.secrets)]
    content = {
        "name": "trawl",
        "image": place.container.image,
        "workingDir": place.folder,
        **container,
        "env": environment or None,
        "resources": {"limits": size} if size else None,
        "volumeMounts": [volume.mount() for volume in volumes],
    }
    specification = {
        "serviceAccountName": kubernetes.service_account,
        "nodeSelector": kubernetes.node_selector or None,
        "affinity": _elsewhere(place.exclude),
        "terminationGracePeriodSeconds": math.ceil(job.grace_seconds) + 30,
        "containers": [given(content)],
        "volumes": [{"name": volume.name, **volume.source} for volume in volumes],
    }
    return given(specification)


def name_of(job: Job) -> str:
    """Return the name of the job's objects: what DNS allows."""
    return job.name.lower().replace("_", "-").replace(".", "-").strip("-")


def metadata(job: Job) -> dict[str, Any]:
    """Return name, place and labels of an object."""
    labels = {"app.kubernetes.io/name": "trawl", "app.kubernetes.io/instance": name_of(job)}
    return {"name": name_of(job), "namespace": job.place.kubernetes.namespace, "labels": labels}


def _machine(job: Job, first: str) -> dict[str, Any]:
    """Return the pod that does a machine's part of an attempt."""
    volumes = [Volume("job", JOB_FILE, {"configMap": {"name": name_of(job)}}), *volumes_of(job)]
    if STATE not in job.place.kubernetes.claims:
        volumes.append(Volume("state", STATE, {"emptyDir": {}}))
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    environment = [
        {"name": "TRAWL_NODE", "valueFrom": {"fieldRef": {"fieldPath": index}}},
        {"name": "TRAWL_HOST", "value": first},
    ]
    container = {"command": ["bash", "-c", _script(job)], "env": environment}
    own = {"restartPolicy": "Never", "subdomain": name_of(job)}
    return own | pod(job, container, volumes)


def _script(job: Job) -> str:
    """Return what a pod runs; which of the machines it is stands in its environment."""
    node = (
        f"exec {job.place.python} -m launch.node {STATE} --job {JOB_FILE}/job.yaml "
        f'--nodes {job.place.nodes} --node "$TRAWL_NODE" --host "$TRAWL_HOST"'
    )
    return "\n".join(["set -euo pipefail", *job.place.setup, node])


def _job_file(job: Job) -> dict[str, Any]:
    data = {"job.yaml": recipe.dump(job)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(job), "data": data}


def _service(job: Job) -> dict[str, Any]:
    """Return the headless service by which the pods find the first of them, ready or not."""
    selector = {"app.kubernetes.io/instance": name_of(job)}
    specification = {"clusterIP": "None", "selector": selector, "publishNotReadyAddresses": True}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(job),
        "spec": specification,
    }


def _job(job: Job, first: str, restarts: int) -> dict[str, Any]:
    """Return the specification of an Indexed Job that has a pod for each machine."""
    codes = {"operator": "In", "values": [int(code) for code in _FINAL]}
    bug = {"operator": "In", "values": [int(ExitCode.FAILURE)]}
    stale = {"operator": "In", "values": [int(ExitCode.STALE)]}
    preempted = {"operator": "In", "values": [int(ExitCode.PREEMPTED)]}
    rules: list[dict[str, Any]] = [{"action": "FailJob", "onExitCodes": codes}]
    if not job.retry.bug and job.place.nodes == 1:  # of several, one fails for want of another
        rules.append({"action": "FailJob", "onExitCodes": bug})
    rules.append({"action": "Ignore", "onPodConditions": [_DISRUPTED]})
    # A pod that comes back beside its replacement has nothing to do.
    rules.append({"action": "Ignore", "onExitCodes": stale})
    if job.retry.preempted == "unlimited":
        rules.append({"action": "Ignore", "onExitCodes": preempted})
    template = {"metadata": {"labels": metadata(job)["labels"]}}
    return {
        "completions": job.place.nodes,
        "parallelism": job.place.nodes,
        "completionMode": "Indexed",
        "backoffLimit": restarts,
        "podFailurePolicy": {"rules": rules},
        "template": {**template, "spec": _machine(job, first)},
    }


def queued(job: Job) -> dict[str, Any]:
    """Return the metadata of the object that waits in the job's queue, where it has one."""
    content = metadata(job)
    if job.place.kubernetes.queue:
        content["labels"]["kueue.x-k8s.io/queue-name"] = job.place.kubernetes.queue
    return content


def _indexed_job(job: Job) -> dict[str, Any]:
    name = name_of(job)
    specification = _job(job, f"{name}-0.{name}", job.retry.bad_node * job.place.nodes)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": queued(job),
        "spec": specification,
    }


def _job_set(job: Job) -> dict[str, Any]:
    """Return a JobSet, which starts all machines anew where one fails."""
    name = name_of(job)
    first = f"{name}-nodes-0-0.{name}"
    restarts = job.retry.bad_node
    if job.retry.preempted == "unlimited":
        restarts = _PREEMPTIONS
    specification = {
        "network": {"enableDNSHostnames": False},
        "failurePolicy": {"maxRestarts": restarts},
        "replicatedJobs": [
            {"name": "nodes", "replicas": 1, "template": {"spec": _job(job, first, 0)}}
        ],
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": queued(job),
        "spec": specification,
    }


def _secret(secret: Secret) -> dict[str, Any]:
    name, _, key = str(secret.kubernetes).partition("/")
    reference = {"secretKeyRef": {"name": name, "key": key}}
    return {"name": secret.variable, "valueFrom": reference}


def _elsewhere(hosts: list[str]) -> dict[str, Any] | None:
    """Return the affinity that keeps pods off `hosts`."""
    if not hosts:
        return None
    rule = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": hosts}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def given(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {key: value for key, value in content.items() if value is not None}
