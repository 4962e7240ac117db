"""The supervisor of a local job: runs attempts until one is done or none is allowed any more.

    python -m launch.supervise FOLDER

FOLDER holds `job.yaml`, and gets `pid`, `events.jsonl` and `attempt-N.log`.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from launch.job import Job, Retry
from launch.render import command
from pretrain.exit_codes import ExitCode
from trawl import recipe, storage
from trawl.events import EventLog


def allowed(retry: Retry, cause: str) -> float:
    """Return how many attempts in all may end with `cause` and be tried again."""
    if cause == "preempted":
        return float("inf") if retry.preempted == "unlimited" else retry.preempted
    return {"bad-node": retry.bad_node, "failure": retry.bug}.get(cause, 0)


def cause_of(code: int) -> str:
    """Name what exit `code` stands for; a negative code is the signal that killed the attempt."""
    if code < 0:
        return "bad-node"
    names = {
        ExitCode.DONE: "done",
        ExitCode.USER_ERROR: "user-error",
        ExitCode.PREEMPTED: "preempted",
        ExitCode.BAD_NODE: "bad-node",
        ExitCode.DATA_ERROR: "data-error",
        ExitCode.NUMERICS: "numerics",
    }
    return names[ExitCode(code)] if code in list(names) else "failure"


class Supervisor:
    """Runs the attempts of one job, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = recipe.load(folder / "job.yaml", Job)
        self.attempt: subprocess.Popen[bytes] | None = None
        self.stopped = False

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Tell the attempt to save and end; bound as a signal handler."""
        self.stopped = True
        if self.attempt is not None and self.attempt.poll() is None:
            os.killpg(self.attempt.pid, signal.SIGTERM)

    def run(self) -> int:
        """Run attempts to the end and return the exit code of the last."""
        ended: Counter[str] = Counter()
        with EventLog(self.folder / "events.jsonl") as events:
            while True:
                number = sum(ended.values()) + 1
                events.write("attempt-started", attempt=number)
                code = self._one_attempt(number)
                cause = cause_of(code)
                ended[cause] += 1
                events.write("attempt-ended", attempt=number, code=code, cause=cause)
                again = not self.stopped and ended[cause] <= allowed(self.job.retry, cause)
                if cause == "done" or not again:
                    events.write("job-ended", cause=cause, code=code)
                    return code

    def _one_attempt(self, number: int) -> int:
        """Run one attempt in a process group of its own; leave none of its processes behind."""
        program, *arguments = command(self.job)
        with (self.folder / f"attempt-{number}.log").open("wb") as log:
            self.attempt = subprocess.Popen(
                [sys.executable, "-m", program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            while True:
                try:
                    code = self.attempt.wait(self.job.grace_seconds if self.stopped else 1.0)
                    break
                except subprocess.TimeoutExpired:
                    if self.stopped:
                        os.killpg(self.attempt.pid, signal.SIGKILL)
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
