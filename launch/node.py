"""One machine's part of an attempt: starts the work, keeps its log, and leaves word of its end.

    python -m launch.node FOLDER --attempt 1 --nodes 2 --node 0 --host FIRST

FOLDER is the job's, which the machines share. Slurm, ssh and the local supervisor all start this.
"""

import argparse
import contextlib
import os
import secrets as tokens
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from data_pipeline.cluster import SETTINGS
from launch import attempts
from launch.attempts import NodeEnding
from launch.command import Part, ray_command, work_command
from launch.job import Job, Secret
from launch.meeting import own_address, own_name
from pretrain.exit_codes import ExitCode
from trawl import recipe, storage
from trawl.errors import RequestError, WorkError
from trawl.parent import start
from trawl.stamped import stamp

_POLL_SECONDS = 0.2
_BEAT_SECONDS = 10.0
_CLUSTER_STARTS = 6
_HEAD_SECONDS = 300.0
# How a build ends that was not ended from outside.
_OWN_WORDS = (ExitCode.DONE, ExitCode.USER_ERROR, ExitCode.DATA_ERROR, ExitCode.STALE)


class NodeWork:
    """The processes of one machine's part, which end when this process does, however it ends."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        part: Part,
        is_over: Callable[[], bool] | None = None,
    ) -> None:
        """Prepare the part; `is_over` says whether the first machine is done with this one.

        Without it, that is so once the first has left word of its end.
        """
        self.job, self.folder, self.part = job, folder, part
        first = attempts.ending_of(folder, part.attempt, 0)
        self._is_over = is_over or first.exists
        self.stopped_at: float | None = None
        self._work: subprocess.Popen[bytes] | None = None
        self._beat_at = -_BEAT_SECONDS
        self._cluster: subprocess.Popen[bytes] | None = None
        self._log = subprocess.DEVNULL
        self._settings: dict[str, str] = {}

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Tell the work to save and end; may be bound as a signal handler."""
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def run(self) -> NodeEnding:
        """Do the part to its end, leave word of how it ended, and return that."""
        part = self.part
        log = attempts.log_of(self.folder, part.attempt, part.node)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._log = file.fileno()
            try:
                code = self._do()
            except RequestError as error:
                file.write(f"trawl: {error}\n".encode())
                print(f"trawl: {error}", file=sys.stderr)
                code = ExitCode.USER_ERROR
            finally:
                if self._cluster is not None:
                    _kill_group(self._cluster)
        if self.stopped_at is not None and self._has_no_word_for_it(code):
            code = ExitCode.PREEMPTED
        said = last_words(log)
        ending = NodeEnding(part.node, own_name(), code, said)
        attempts.write_ending(self.folder, part.attempt, ending)
        return ending

    def _do(self) -> int:
        """Do the work, or help the machine that does; return the code."""
        if self.job.run.corpus is not None and self.part.nodes > 1:
            if self.part.node:
                return self._lend()
            self._start_cluster()
            if not self._head_answers():
                return ExitCode.BAD_NODE
        environment = self._settings | secret_values(self.job.secrets)
        self._work = _start(work_command(self.job, self.part), self._log, environment)
        if self.stopped_at is not None:
            self._signal(signal.SIGTERM)
        return self._wait(self._work)

    def _has_no_word_for_it(self, code: int) -> bool:
        """Whether work that was told to stop ended with `code` because it was.

        A build has nothing to save, and fails in the middle of something, or for want of its Ray
        cluster: Slurm tells every process of a job at once.
        """
        if self.job.run.corpus is None:
            return code == -signal.SIGTERM  # before it could listen
        return code not in _OWN_WORDS

    def _start_cluster(self) -> None:
        """Start this machine's part of the Ray cluster of a build on several."""
        words = ray_command(self.job, self.part, own_address(self.part.host, self.part.node))
        settings = {key: value for key, value in SETTINGS.items() if key not in os.environ}
        if "RAY_AUTH_MODE" not in os.environ:
            self._settings = token_settings(self.folder, create=self.part.node == 0)
        known = settings | self._settings | secret_values(self.job.secrets)
        self._cluster = _start(words, self._log, known)

    def _cluster_is_over(self) -> bool:
        return self._cluster is not None and self._cluster.poll() is not None

    def _head_answers(self) -> bool:
        """Wait until the head of the cluster, here or there, answers; False if it never does."""
        deadline = time.monotonic() + _HEAD_SECONDS
        while time.monotonic() < deadline and self.stopped_at is None:
            self._beat()
            if self.part.node == 0 and self._cluster_is_over():
                return False
            if self.part.node and self._is_over():
                return True
            try:
                socket.create_connection((self.part.host, self.job.place.port), 10).close()
            except OSError:
                time.sleep(_POLL_SECONDS)
            else:
                return True
        return self.stopped_at is not None

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
                if self._cluster_is_over():
                    # The head of the cluster has died, and what the work still does is to wait.
                    _kill_group(work)
                    return ExitCode.BAD_NODE
        _kill_group(work)  # what the work itself may have left
        return code

    def _lend(self) -> int:
        """Lend this machine to the cluster until the first machine is done with it."""
        starts = 0
        while not self._is_over() and self.stopped_at is None:
            self._beat()
            if self._cluster is not None and self._cluster.poll() is None:
                time.sleep(_POLL_SECONDS)
                continue
            # Nothing runs yet, or its raylet has died: of itself, or because the first one's did.
            if starts == _CLUSTER_STARTS or not self._head_answers():
                return ExitCode.BAD_NODE
            if self._cluster is not None:
                _kill_group(self._cluster)
            starts += 1
            self._start_cluster()
        return ExitCode.DONE if self._is_over() else ExitCode.PREEMPTED

    def _beat(self) -> None:
        """Give a sign of life, every ten seconds."""
        if time.monotonic() - self._beat_at < _BEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        # A disk that is full must not end the attempt: the work itself says what it makes of it.
        with contextlib.suppress(OSError, WorkError):
            attempts.beat(self.folder, self.part.attempt, self.part.node, own_name())

    def _out_of_grace(self) -> bool:
        if self.stopped_at is None:
            return False
        return time.monotonic() - self.stopped_at > self.job.grace_seconds

    def _signal(self, number: int) -> None:
        if self._work is not None and self._work.poll() is None:
            os.killpg(self._work.pid, number)


def token_settings(folder: Path, create: bool) -> dict[str, str]:
    """Return the settings by which the parts of a job's own Ray cluster know each other.

    The first machine draws a token, in a file that its owner alone reads; the others wait for it.
    """
    file = folder / "ray.token"
    if create:
        with contextlib.suppress(FileExistsError):
            opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "w") as token:
                token.write(tokens.token_hex(32))
    deadline = time.monotonic() + _HEAD_SECONDS
    while not (file.exists() and file.stat().st_size) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


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
            host = own_name()
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
    return start([sys.executable, "-m", *words], log, environment)


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
    code = work.run().code
    return ExitCode.BAD_NODE if code < 0 else code


if __name__ == "__main__":
    sys.exit(main())
