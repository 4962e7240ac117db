"""The supervisor of a job here, over ssh or on a Ray cluster: attempts until one is done.

    python -m launch.supervise FOLDER

FOLDER holds `job.yaml`, and gets `pid`, `events.jsonl` and a folder for each attempt.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from launch import attempts
from launch.command import Part
from launch.job import Job
from launch.kuberay import KubeRayAttempt
from launch.node import NodeWork
from launch.progress import progress_of
from launch.ray_jobs import RayAttempt
from launch.ssh import SshAttempt
from trawl import storage


class LocalAttempt:
    """One attempt on this machine."""

    def __init__(self, job: Job, folder: Path, number: int) -> None:
        self._work = NodeWork(job, folder, Part(attempt=number, job=attempts.identity(folder)))

    def stop(self) -> None:
        """Tell the work to save and end."""
        self._work.stop()

    def run(self) -> int:
        """Run the attempt to its end and return its code."""
        return self._work.run().code


Attempt = LocalAttempt | SshAttempt | RayAttempt | KubeRayAttempt


def kind_of(job: Job) -> type[Attempt]:
    """Return what an attempt of the job is."""
    if job.place.backend == "ray":
        return RayAttempt if job.place.ray.address is not None else KubeRayAttempt
    return SshAttempt if job.place.backend == "ssh" else LocalAttempt


class Supervisor:
    """Runs the attempts of one job, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = attempts.job_of(folder)
        self.attempt: Attempt | None = None
        self.stopped = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Tell the attempt to save and end; bound as a signal handler."""
        self.stopped = True
        if self.attempt is not None:
            self.attempt.stop()

    def run(self) -> int:
        """Run attempts to the end and return the exit code of the last."""
        kind = kind_of(self.job)
        number, code = attempts.newest(self.folder) + 1, 0
        while attempts.begin(self.folder, number, progress_of(self.job)):
            self.attempt = kind(self.job, self.folder, number)
            if self.stopped:
                self.attempt.stop()
            code = self.attempt.run()
            progress = progress_of(self.job)
            if not attempts.end(self.folder, number, code, progress, stopped=self.stopped):
                break
            number += 1
        return code


def main() -> None:
    """Supervise the job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    supervisor = Supervisor(folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    storage.write_text(folder / "pid", str(os.getpid()))
    sys.exit(supervisor.run())


if __name__ == "__main__":
    main()
