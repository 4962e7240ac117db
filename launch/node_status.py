"""The machines of a job's newest attempt, each by what it left in the job's folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch import attempts
from launch.attempts import NodeEnding
from launch.job import Job


@dataclass(frozen=True)
class Node:
    """One machine's part of an attempt."""

    node: int
    host: str
    """ "" where it has not said yet."""
    attempt: int
    sign_at: float | None
    """When it last gave a sign of life, in seconds since the epoch."""
    code: int | None = None
    """How its part ended; negative: the signal that killed it. None: it has not told."""
    cause: str | None = None
    message: str = ""


def nodes_of(job: Job, folder: Path, attempt: int) -> list[Node]:
    """Return the machines of `attempt`, those included of which nothing was heard."""
    hosts = dict(enumerate(attempts.hosts_of(folder, attempt)))
    told = {ending.node: ending for ending in attempts.endings(folder, attempt)}
    place = attempts.folder_of(folder, attempt)
    seen = {int(path.stem.split("-")[1]) for path in place.glob("node-*.*")}
    if not job.place.is_array:  # whose machines come and go
        count = max(_asked(job, folder, attempt), len(hosts), max(seen, default=-1) + 1)
        seen = set(range(count))
    return [
        _node(folder, attempt, number, told.get(number), hosts.get(number, ""))
        for number in sorted(seen)
    ]


def _asked(job: Job, folder: Path, attempt: int) -> int:
    """Return how many machines the attempt began on, as far as its beginning tells.

    A Ray job has one, its driver's: which others do its work is the cluster's own affair.
    """
    if job.place.backend == "ray":
        return 1
    begun = attempts.beginning(folder, attempt)
    if not begun:
        return 0
    return int(begun.get("nodes", job.place.least_nodes or job.place.nodes))


def _node(folder: Path, attempt: int, number: int, ending: NodeEnding | None, host: str) -> Node:
    beat = attempts.beat_of(folder, attempt, number)
    log = attempts.log_of(folder, attempt, number)
    written = [path.stat().st_mtime for path in (beat, log) if path.exists()]
    sign_at = max(written, default=None)
    if ending is None:
        return Node(number, _read(beat).get("host", host), attempt, sign_at)
    return Node(
        node=number,
        host=ending.host,
        attempt=attempt,
        sign_at=sign_at,
        code=ending.code,
        cause=attempts.cause_of(ending.code),
        message=ending.message,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content
