"""ssh: the command line that starts each machine's part of an attempt."""

import shlex

from launch.job import Job

# A connection that is cut ends here within half a minute, and never asks a question.
_QUIET = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
_QUIET += ["-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]


def host_command(job: Job, host: str, words: list[str]) -> list[str]:
    """Return the command that runs `words` on `host` from here."""
    return ["ssh", *_QUIET, *job.place.ssh.options, host, shlex.join(words)]


def part_command(job: Job, host: str, words: list[str]) -> list[str]:
    """Return the command that runs `python -m WORDS` on `host` as a part of the job."""
    place = job.place
    lines = [f"cd {shlex.quote(place.folder)}"] if place.folder else []
    lines += place.setup
    if place.ssh.interface:
        name = shlex.quote(place.ssh.interface)
        lines.append(f"export GLOO_SOCKET_IFNAME={name} NCCL_SOCKET_IFNAME={name}")
    # With a terminal, the part is hung up on when the connection ends.
    script = " && ".join([*lines, f"exec {shlex.join([place.python, '-m', *words])}"])
    return ["ssh", "-tt", *_QUIET, *place.ssh.options, host, script]


def command(
    job: Job, folder: str, attempt: int, hosts: list[str], *, node: int, first: str
) -> list[str]:
    """Return the command that starts machine `node`'s part; `first` is where the others meet."""
    part = ["--attempt", str(attempt), "--nodes", str(len(hosts)), "--node", str(node)]
    return part_command(job, hosts[node], ["launch.node", folder, *part, "--host", first])


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the plan: one command a machine, all started together, if the first hosts answer."""
    hosts = job.place.hosts[: job.place.nodes]
    first = hosts[0].rpartition("@")[2]
    lines = [
        shlex.join(command(job, folder, 1, hosts, node=node, first=first))
        for node in range(len(hosts))
    ]
    return {"plan.txt": "\n".join(lines) + "\n"}
