"""What a preflight hands to each place: like a submission of the job, and as pure."""

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from launch.job import Job
from launch.rendering import kubernetes, ray, slurm, ssh

MODULE = "launch.preflight.node"
SCRIPT = "preflight.sbatch"
MINUTES = 20
"""Time asked of a queue: many more than it takes."""

_BODY = """\
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol --oneliner show node "$first" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 {srun}\\
  bash -c {node} "${{address:-$first}}"
"""


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the texts that a preflight hands to the job's place; `folder` is its own."""
    place = job.place
    if place.backend == "slurm":
        return {SCRIPT: _slurm(job, folder)}
    if place.backend == "ssh":
        hosts = place.hosts
        first = hosts[0].rpartition("@")[2]
        commands = [ssh_command(job, folder, hosts, n, first) for n in range(len(hosts))]
        return {"plan.txt": "".join(shlex.join(command) + "\n" for command in commands)}
    if place.backend == "kubernetes":
        return {"objects.yaml": _kubernetes(job, folder)}
    if place.backend == "ray" and place.ray.address is None:
        return {"objects.yaml": _kubernetes(job, folder)}
    if place.backend == "ray":
        return {"request.json": json.dumps(ray_request(job, folder), indent=2) + "\n"}
    return {"preflight.sh": shlex.join([place.python, "-m", *local_words(folder)]) + "\n"}


def ray_request(job: Job, folder: str) -> dict[str, str]:
    """Return the request for a Ray job whose first machine judges them all."""
    name = f"{job.name}-preflight-{Path(folder).name}"
    lines = [f"cd {shlex.quote(job.place.folder)}"] if job.place.folder else []
    words = ray.spread(job, name, [MODULE, folder, "--judge"])
    entry = shlex.join([job.place.python, "-m", *words])
    return {"submission_id": name, "entrypoint": " && ".join([*lines, *job.place.setup, entry])}


def local_words(folder: str) -> list[str]:
    """Return what this machine alone runs."""
    return [MODULE, folder, "--nodes", "1", "--node", "0"]


def ssh_command(job: Job, folder: str, hosts: list[str], node: int, first: str) -> list[str]:
    """Return the command that starts a host's part; `first` is the first one's address."""
    words = [MODULE, folder, "--nodes", str(len(hosts)), "--node", str(node)]
    return ssh.part_command(job, hosts[node], [*words, "--host", first, "--name", hosts[node]])


def _slurm(job: Job, folder: str) -> str:
    node = (
        f"exec {shlex.quote(job.place.python)} -m {MODULE} {shlex.quote(folder)} "
        '--nodes "$SLURM_JOB_NUM_NODES" --node "$SLURM_NODEID" --host "$0" '
        '--name "$SLURMD_NODENAME"'
    )
    short = job.place.model_copy(update={"hours": MINUTES / 60})
    asked = slurm.options(job.model_copy(update={"place": short}), folder, again=False)
    body = _BODY.format(srun=slurm.container(job), node=shlex.quote(node))
    lines = ["#!/usr/bin/env bash", *asked, "set -uo pipefail", *job.place.setup]
    return "\n".join([*lines, body])


def renamed(job: Job) -> Job:
    """Return the job under the name that its preflight has on Kubernetes."""
    return job.model_copy(update={"name": f"{job.name}-preflight"})


def _kubernetes(job: Job, folder: str) -> str:
    """Return the job's objects under another name, whose pods run the preflight."""
    objects = list(yaml.safe_load_all(kubernetes.render(renamed(job), folder)["objects.yaml"]))
    # A claim holds what earlier ones left, too.
    own = f"{kubernetes.STATE}/preflight-{Path(folder).name}"
    for pod in _pods(objects):
        container = pod["containers"][0]
        name = {"fieldRef": {"fieldPath": "spec.nodeName"}}
        container["env"].append({"name": "TRAWL_NAME", "valueFrom": name})
        container["command"][-1] = container["command"][-1].replace(
            f"-m launch.node {kubernetes.STATE}",
            f'-m {MODULE} {own} --judge --name "$TRAWL_NAME"',
        )
    return yaml.safe_dump_all(objects, sort_keys=False)


def _pods(content: Any) -> list[Any]:
    """Return the specifications of pods in some objects."""
    if isinstance(content, list):
        return [pod for each in content for pod in _pods(each)]
    if not isinstance(content, dict):
        return []
    own = [content] if "containers" in content else []
    return own + [pod for each in content.values() for pod in _pods(each)]
