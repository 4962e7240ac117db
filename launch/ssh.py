"""The place ssh: an attempt is one ssh connection to each machine, held by a supervisor here."""

import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launch import attempts
from launch.blame import bad_hosts
from launch.job import Job
from launch.local import running, stop, submit
from launch.rendering.ssh import command, host_command
from pretrain.exit_codes import ExitCode
from trawl.errors import RequestError
from trawl.events import EventLog
from trawl.parent import start

__all__ = ["SshAttempt", "running", "stop", "submit"]

_POLL_SECONDS = 0.2
_PROBE_SECONDS = 30.0
# A part that was only starting did not hear the first time; one that heard, heeds the first alone.
_TELL_SECONDS = 5.0
# Once one machine has ended, the others end too: of themselves, or because they miss it. Where one
# has left no word they can only miss it, and say so within the two minutes that ranks are silent.
_LAST_SECONDS = 300.0
_LAST_WITHOUT_WORD_SECONDS = 150.0


def connected(words: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a connection that ends with this process; what it says goes to the end of `log`."""
    with log.open("ab") as file:
        return start(words, file)


class SshAttempt:
    """One attempt on the machines that answer."""

    def __init__(self, job: Job, folder: Path, number: int) -> None:
        self.job, self.folder, self.number = job, folder, number
        self.hosts: list[str] = []
        self.stopped = False
        self._told_at = -_TELL_SECONDS
        self._parts: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        """Have every machine's part told to save and end."""
        self.stopped = True

    def run(self) -> int:
        """Run the attempt to its end and return its code; a machine that left no word is bad."""
        place = self.job.place
        least = place.least_nodes or place.nodes
        answering, bad = reachable(self.job), bad_hosts(self.folder)
        good = [host for host in answering if host not in bad]
        self.hosts = (good if len(good) >= least else answering)[: place.nodes]
        with EventLog(self.folder / attempts.EVENTS) as events:
            events.write("machines", attempt=self.number, hosts=self.hosts)
        if len(self.hosts) < least:
            return ExitCode.BAD_NODE
        first = address_of(self.job, self.hosts[0])
        logs = attempts.folder_of(self.folder, self.number)
        logs.mkdir(parents=True, exist_ok=True)
        for node, host in enumerate(self.hosts):
            words = command(
                self.job, str(self.folder), self.number, self.hosts, node=node, first=first
            )
            log = logs / f"ssh-{node}-{host.rpartition('@')[2]}.log"
            self._parts.append(connected(words, log))
        self._wait()
        return attempts.code_told(self.folder, self.number, len(self.hosts))

    def _wait(self) -> None:
        """Wait for all parts, but not for ever for the rest once one has ended."""
        ended_at: float | None = None
        while any(part.poll() is None for part in self._parts):
            time.sleep(_POLL_SECONDS)
            if self.stopped and time.monotonic() - self._told_at > _TELL_SECONDS:
                self._tell()
            if ended_at is None and any(part.poll() is not None for part in self._parts):
                ended_at = time.monotonic()
            patience = self.job.grace_seconds + self._last_seconds()
            if ended_at is not None and time.monotonic() - ended_at > patience:
                for part in self._parts:
                    part.kill()

    def _last_seconds(self) -> float:
        ended = {node for node, part in enumerate(self._parts) if part.poll() is not None}
        said = {ending.node for ending in attempts.endings(self.folder, self.number)}
        return _LAST_SECONDS if ended <= said else _LAST_WITHOUT_WORD_SECONDS

    def _tell(self) -> None:
        """Signal the parts by another connection: a signal does not travel along the first."""

        def tell(node: int) -> None:
            file = attempts.process_of(self.folder, self.number, node)
            script = f'kill -TERM "$(cat {shlex.quote(str(file))})"'
            _ask(host_command(self.job, self.hosts[node], ["sh", "-c", script]))

        with ThreadPoolExecutor(max(1, len(self.hosts))) as pool:
            list(pool.map(tell, range(len(self.hosts))))
        self._told_at = time.monotonic()


def reachable(job: Job) -> list[str]:
    """Return the hosts that answer and are not excluded, in the order of the job file."""
    hosts = job.place.hosts
    with ThreadPoolExecutor(min(64, max(1, len(hosts)))) as pool:
        answers = list(
            pool.map(lambda host: _ask(host_command(job, host, ["true"])) is not None, hosts)
        )
    return [host for host, answered in zip(hosts, answers, strict=True) if answered]


def address_of(job: Job, host: str) -> str:
    """Return the name or address that ssh itself connects to for `host`."""
    said = _ask(["ssh", "-G", *job.place.ssh.options, host]) or ""
    for line in said.splitlines():
        key, _, value = line.partition(" ")
        if key == "hostname":
            return value
    return host.rpartition("@")[2]


def _ask(words: list[str]) -> str | None:
    """Return what a command prints; None if it fails or takes too long."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PROBE_SECONDS,
        )
    except FileNotFoundError as error:
        raise RequestError(f"{words[0]} is not on this machine; install it") from error
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
