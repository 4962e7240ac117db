"""A real Slurm of two nodes on this machine: munged, slurmctld and two slurmd.

The daemons are found by their process ids and killed by them. Both nodes share the host, so a node
dies by killing its slurmd and the steps that it started.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.ports import free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
_PATIENCE = 120.0

_CONFIG = """\
ClusterName=trawl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={first}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MpiDefault=none
KillWait=10
SchedulerParameters=requeue_setup_env_fail,sched_interval=2,bf_interval=2
MinJobAge=600
{nodes}
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PreemptMode=OFF
"""


def missing() -> list[str]:
    """Return the programs that a Slurm here would need and that are not installed."""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return lacking if os.geteuid() == 0 else [*lacking, "root"]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass
class Slurm:
    """A running Slurm; `environment` makes its commands find it."""

    folder: Path
    environment: dict[str, str]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *words: str) -> str:
        """Run one of Slurm's commands; what it prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def start_node(self, name: str) -> None:
        """Start a node's daemon and wait until jobs may run on it."""
        command = ["slurmd", "-D", "-N", name, "-f", str(self.folder / "slurm.conf")]
        self._start(name, command)
        self.wait_for(name, "idle", "mixed", "allocated")

    def kill_node(self, name: str) -> None:
        """Kill a node as a machine dies: its daemon, and whatever runs on it."""
        daemon = self.daemons.pop(name)
        steps = self._on_node(name)
        for process in [daemon.pid, *steps]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        daemon.wait()
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def wait_for(self, name: str, *states: str) -> None:
        """Wait until a node is in one of `states`."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            said = self.run("sinfo", "--noheader", "--format=%T", f"--nodes={name}").strip()
            if said.rstrip("*") in states and not said.endswith("*"):
                return
            assert time.monotonic() < deadline, f"{name} is {said}: see {self.folder}"
            time.sleep(0.1)

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.environment, "PATH": _path()},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start everything."""
        home = self.folder / "munge"
        home.mkdir(mode=0o700)
        (self.folder / "state").mkdir()
        key = home / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--key-file={key}", f"--socket={self.folder}/munge.socket"]
        files += [f"--pid-file={home}/pid", f"--log-file={home}/log", f"--seed-file={home}/seed"]
        self._start("munged", ["munged", "--foreground", "--force", *files])
        deadline = time.monotonic() + _PATIENCE
        while not (self.folder / "munge.socket").exists():
            self._still_up("munged", deadline)
            time.sleep(0.05)
        self._start("slurmctld", ["slurmctld", "-D", "-f", str(self.folder / "slurm.conf")])
        while not _answers(self.folder, self.environment):
            self._still_up("slurmctld", deadline)
            time.sleep(0.2)
        for name in NODES:
            self.start_node(name)

    def _still_up(self, name: str, deadline: float) -> None:
        up = self.daemons[name].poll() is None and time.monotonic() < deadline
        assert up, (self.folder / f"{name}.out").read_text()

    def _on_node(self, name: str) -> list[int]:
        """Return what a node's slurmd started: processes that have its name and this Slurm's
        configuration from it, and the step daemons above them, first."""
        marks = {f"SLURMD_NODENAME={name}", f"SLURM_CONF={self.environment['SLURM_CONF']}"}
        steps, found = set(), []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_text(errors="replace").split("\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                above = Path("/proc", str(parent), "cmdline").read_bytes()
            except OSError:
                continue
            if marks <= set(environment):
                found.append(int(folder.name))
                if above.startswith(b"slurmstepd"):
                    steps.add(parent)
        return [*steps, *found]

    def stop(self) -> None:
        """Stop everything, jobs first."""
        for name in [name for name in NODES if name in self.daemons]:
            for process in self._on_node(name):
                _kill(process)
        for daemon in self.daemons.values():
            _kill(daemon.pid)
            daemon.wait()


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _answers(folder: Path, environment: dict[str, str]) -> bool:
    environment = {**os.environ, **environment}
    done = subprocess.run(["scontrol", "ping"], env=environment, capture_output=True, check=False)
    return b"UP" in done.stdout


@contextmanager
def slurm(folder: Path, cpus: int = 1) -> Iterator[Slurm]:
    """Run a Slurm of two nodes whose files lie in `folder`."""
    controller, *ports = free_ports(3)
    lines = [
        f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={cpus} RealMemory=4000"
        for name, port in zip(NODES, ports, strict=True)
    ]
    text = _CONFIG.format(
        host=socket.gethostname(),
        controller=controller,
        first=ports[0],
        folder=folder,
        nodes="\n".join(lines),
    )
    (folder / "slurm.conf").write_text(text)
    running = Slurm(folder, {"SLURM_CONF": str(folder / "slurm.conf")})
    try:
        running.start()
        yield running
    finally:
        running.stop()
