"""ssh: the command line that starts each machine's part of an attempt."""

import shlex

from launch.job import Job


def command(job: Job, folder: str, attempt: int, node: int) -> list[str]:
    """Return the command that starts machine `node`'s part from here.

    `-tt` gives the part a terminal, so that it is told when the connection ends.
    """
    place = job.place
    first = place.ssh.hosts[0].rpartition("@")[2]
    part = ["--attempt", str(attempt), "--nodes", str(place.nodes), "--node", str(node)]
    work = shlex.join([place.python, "-m", "launch.node", folder, *part, "--host", first])
    lines = [f"cd {shlex.quote(place.folder)}"] if place.folder else []
    lines += place.setup
    if place.ssh.interface:
        name = shlex.quote(place.ssh.interface)
        lines.append(f"export GLOO_SOCKET_IFNAME={name} NCCL_SOCKET_IFNAME={name}")
    script = " && ".join([*lines, f"exec {work}"])
    quiet = ["-o", "BatchMode=yes", "-o", "ServerAliveInterval=10"]
    return ["ssh", "-tt", *quiet, *place.ssh.options, place.ssh.hosts[node], script]


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the plan: one command a machine, all started together."""
    lines = [shlex.join(command(job, folder, 1, node)) for node in range(job.place.nodes)]
    return {"plan.txt": "\n".join(lines) + "\n"}
