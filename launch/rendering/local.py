"""This machine: the script that is one attempt."""

import shlex

from launch.command import work_command
from launch.job import Job


def render(job: Job, folder: str) -> dict[str, str]:
    """Return the shell script of an attempt."""
    lines = ["#!/usr/bin/env bash", "set -euo pipefail", *job.place.setup]
    lines += [
        f'export {secret.variable}="$(cat {shlex.quote(str(secret.file))})"'
        for secret in job.secrets
    ]
    return {"attempt.sh": "\n".join([*lines, f"exec {shlex.join(work_command(job))}"]) + "\n"}
