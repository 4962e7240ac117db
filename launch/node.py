"""One machine's part of an attempt: starts the work, keeps its log, and leaves word of its end.

    python -m launch.node FOLDER --attempt 1 --nodes 2 --node 0 --host FIRST

FOLDER is the job's, which the machines share. Slurm, ssh and the local supervisor all start this.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from launch import attempts
from launch.attempts import NodeEnding
from launch.command import Part, ray_command, work_command
from launch.job import Job, Secret
from pretrain.exit_codes import ExitCode
from trawl import recipe, storage
from trawl.errors import RequestError, WorkError
from trawl.parent import die_with_parent
from trawl.stamped import stamp

_POLL_SECONDS = 0.2
_BEAT_SECONDS = 10.0


class NodeWork:
    """The processes of one machine's part, which end when this process does, however it ends."""

    def __init__(self, job: Job, folder: Path, part: Part) -> None:
        self.job, self.folder, self.part = job, folder, part
        self.stopped_at: float | None = None
        self._work: subprocess.Popen[bytes] | None = None
        self._beat_at = -_BEAT_SECONDS

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Tell the work to save and end; may be bound as a signal handler."""
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def run(self) -> NodeEnding:
        """Do the part to its end, leave word of how it ended, and return that."""
        job, part = self.job, self.part
        log = attempts.log_of(self.folder, part.attempt, part.node)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            beside = ray_command(job, part)
            cluster = _start(beside, file.fileno(), {}) if beside else None
            try:
                if cluster is not None and part.node:
                    code = self._wait_beside(cluster)
                else:
                    environment = secret_values(job.secrets)
                    self._work = _start(work_command(job, part), file.fileno(), environment)
                    if self.stopped_at is not None:
                        self._signal(signal.SIGTERM)
                    code = self._wait(self._work)
            finally:
                if cluster is not None:
                    _kill_group(cluster)
        said = last_words(log)
        ending = NodeEnding(part.node, socket.gethostname(), code, said)
        attempts.write_ending(self.folder, part.attempt, ending)
        return ending

    def _wait(self, work: subprocess.Popen[bytes]) -> int:
        """Wait for the work; once it was told to stop, no longer than its grace."""
        while True:
            self._beat()
            try:
                code = work.wait(_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if self._out_of_grace():
                    _kill_group(work)
        _kill_group(work)  # what the work itself may have left
        return code

    def _wait_beside(self, cluster: subprocess.Popen[bytes]) -> int:
        """Lend this machine to the cluster until the first machine is done with it."""
        first = attempts.folder_of(self.folder, self.part.attempt) / "node-0.json"
        while cluster.poll() is None and not first.exists() and self.stopped_at is None:
            self._beat()
            time.sleep(_POLL_SECONDS)
        if self.stopped_at is not None:
            return ExitCode.PREEMPTED
        return ExitCode.DONE if first.exists() else ExitCode.BAD_NODE

    def _beat(self) -> None:
        """Give a sign of life, every ten seconds."""
        if time.monotonic() - self._beat_at < _BEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        # A disk that is full must not end the attempt: the work itself says what it makes of it.
        with suppress(OSError, WorkError):
            attempts.beat(self.folder, self.part.attempt, self.part.node, socket.gethostname())

    def _out_of_grace(self) -> bool:
        if self.stopped_at is None:
            return False
        return time.monotonic() - self.stopped_at > self.job.grace_seconds

    def _signal(self, number: int) -> None:
        if self._work is not None and self._work.poll() is None:
            os.killpg(self._work.pid, number)


def secret_values(secrets: list[Secret]) -> dict[str, str]:
    """Read the secrets' files; RequestError names one that cannot be read, never its content.

    Those of Kubernetes are in the pod's environment already.
    """
    values = {}
    for secret in secrets:
        if secret.file is None:
            continue
        try:
            values[secret.variable] = Path(secret.file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            host = socket.gethostname()
            raise RequestError(
                f"secrets: {secret.variable}: {secret.file} on {host} cannot be read "
                f"({type(error).__name__}); put it there"
            ) from error
    return values


def last_words(log: Path) -> str:
    """Return the last line that says something, without its time: its first 1,000 characters."""
    size = log.stat().st_size
    with log.open("rb") as file:
        file.seek(max(0, size - 8192))
        tail = file.read().replace(b"\r", b"\n")
    lines = [stamp(line)[1].decode("utf-8", "replace").strip() for line in tail.split(b"\n")]
    return next((line[:1000] for line in reversed(lines) if line), "")


def _start(words: list[str], log: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start `python -m WORDS` in a process group of its own that dies with this process."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env={**os.environ, **environment},
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def main(arguments: list[str] | None = None) -> int:
    """Do this machine's part, as the command line says which; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m launch.node", description=__doc__)
    parser.add_argument("folder", type=Path, help="the job's folder")
    parser.add_argument("--job", type=Path, help="the job file, if it is not in the folder")
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--node", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1", help="the first machine")
    asked = parser.parse_args(arguments)
    identity = attempts.identity(asked.folder)
    part = Part(asked.attempt, asked.nodes, asked.node, asked.host, identity)
    job = recipe.load(asked.job, Job) if asked.job else attempts.job_of(asked.folder)
    work = NodeWork(job, asked.folder, part)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, work.stop)
    storage.write_text(attempts.process_of(asked.folder, part.attempt, part.node), str(os.getpid()))
    try:
        code = work.run().code
    except RequestError as error:
        print(f"trawl: {error}", file=sys.stderr)
        attempts.write_ending(
            asked.folder,
            part.attempt,
            NodeEnding(part.node, socket.gethostname(), int(ExitCode.USER_ERROR), str(error)),
        )
        return ExitCode.USER_ERROR
    return ExitCode.BAD_NODE if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
