"""The supervisor of a local job: runs attempts until one is done or none is allowed any more.

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
from launch.node import NodeWork
from launch.progress import progress_of
from trawl import storage


class Supervisor:
    """Runs the attempts of one job, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = attempts.job_of(folder)
        self.work: NodeWork | None = None
        self.stopped = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Tell the attempt to save and end; bound as a signal handler."""
        self.stopped = True
        if self.work is not None:
            self.work.stop()

    def run(self) -> int:
        """Run attempts to the end and return the exit code of the last."""
        number = attempts.newest(self.folder)
        code = 0
        again = True
        while again:
            number += 1
            again = attempts.begin(self.folder, number, progress_of(self.job))
            if again:
                self.work = NodeWork(self.job, self.folder, Part(attempt=number))
                if self.stopped:
                    self.work.stop()
                code = self.work.run().code
                progress = progress_of(self.job)
                again = attempts.end(self.folder, number, code, progress, stopped=self.stopped)
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
