"""Rendering is pure: a job in, the text that a place runs out."""

import shlex

from launch.job import Job


def command(job: Job) -> list[str]:
    """Return the command line of one attempt of `job`, without the interpreter before it."""
    changes = [part for change in job.run.changes for part in ("--set", change)]
    if job.run.corpus is not None:
        return ["trawl", "corpus", "build", job.run.corpus, *changes]
    processes = ["--processes", str(job.on.processes)]
    return ["trawl", "pretrain", "run", str(job.run.pretrain), *processes, *changes]


def local_script(job: Job) -> str:
    """Return the shell script that is one attempt of `job` on this machine."""
    return f"#!/usr/bin/env bash\nset -euo pipefail\nexec {shlex.join(command(job))}\n"
