"""Hosts with addresses of their own on this machine: network namespaces, a real sshd in each.

They share the file system and see each other's processes, as the machines of one cluster do not; a
host is cut off by its link.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_PATIENCE = 60.0
_CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
ClientAliveInterval 5
ClientAliveCountMax 2
"""


def missing() -> list[str]:
    """Return what hosts here would need and is not there."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacking = [
        name
        for name in ("ip", "sshd", "ssh-keygen", "nsenter")
        if shutil.which(name, path=path) is None
    ]
    if os.geteuid() != 0:
        return [*lacking, "root"]
    if lacking:
        return lacking
    name = f"trawl-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return [] if made.returncode == 0 else ["network namespaces"]


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@dataclass
class Hosts:
    """Running hosts. `options` are those that ssh needs to reach them."""

    folder: Path
    count: int
    name: str
    network: str
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def addresses(self) -> list[str]:
        """The hosts' addresses."""
        return [f"{self.network}.{number + 1}" for number in range(self.count)]

    @property
    def options(self) -> list[str]:
        """Options of ssh: the key, and no memory of hosts."""
        known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        return ["-i", str(self.folder / "key"), *known, "-o", "LogLevel=ERROR"]

    def space(self, host: int) -> str:
        """The network namespace of a host."""
        return f"{self.name}{host}"

    def start(self) -> None:
        """Make the network and start an sshd on each host."""
        Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("host_key", "key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)]
            subprocess.run(words, check=True)
        config = self.folder / "sshd_config"
        config.write_text(_CONFIG.format(folder=self.folder))
        _ip("link", "add", self.name, "type", "bridge")
        _ip("address", "add", f"{self.network}.254/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        for host, address in enumerate(self.addresses):
            space, wire = self.space(host), f"{self.name}w{host}"
            _ip("netns", "add", space)
            _ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", wire, "master", self.name, "up")
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", device, "up")
            sshd = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin") or "sshd"
            command = ["ip", "netns", "exec", space, sshd, "-D", "-e", "-f", str(config)]
            with (self.folder / f"sshd-{host}.log").open("wb") as log:
                self.daemons.append(
                    subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
                )
            self._wait_for(address)

    def _wait_for(self, address: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        words = ["ssh", "-o", "BatchMode=yes", *self.options, address, "true"]
        while subprocess.run(words, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, f"no sshd at {address}: see {self.folder}"
            time.sleep(0.1)

    def cut(self, host: int) -> None:
        """Cut a host off the network."""
        _ip("link", "set", f"{self.name}w{host}", "down")

    def run(self, host: int, *words: str) -> None:
        """Run a command in a host's network and its view of the file system."""
        pid = str(self.daemons[host].pid)
        command = ["nsenter", "--target", pid, "--net", "--mount", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"

    def close_port(self, host: int, port: int) -> None:
        """Have the answers of a host from `port` never arrive, as behind a firewall."""
        rule = ["rule", "add", "ipproto", "tcp", "sport", str(port), "blackhole"]
        self.run(host, "ip", *rule)

    def open_port(self, host: int, port: int) -> None:
        """Let them arrive again."""
        rule = ["rule", "delete", "ipproto", "tcp", "sport", str(port), "blackhole"]
        self.run(host, "ip", *rule)

    def throttle(self, host: int, rate: str) -> None:
        """Let a host send no faster than `rate`, as `tc` takes it: 20mbit."""
        shape = ["tbf", "rate", rate, "burst", "64kbit", "latency", "400ms"]
        self.run(host, "tc", "qdisc", "add", "dev", "eth0", "root", *shape)

    def release(self, host: int) -> None:
        """Let it send as fast as it can."""
        self.run(host, "tc", "qdisc", "delete", "dev", "eth0", "root")

    def mend(self, host: int) -> None:
        """Connect it again."""
        _ip("link", "set", f"{self.name}w{host}", "up")

    def stop(self) -> None:
        """Stop the daemons and remove the network."""
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
        for host in range(self.count):
            subprocess.run(["ip", "netns", "delete", self.space(host)], capture_output=True)
        subprocess.run(["ip", "link", "delete", self.name], capture_output=True)


@contextmanager
def hosts(folder: Path, count: int = 2) -> Iterator[Hosts]:
    """Run `count` hosts whose keys and logs lie in `folder`."""
    number = os.getpid() % 250
    running = Hosts(folder, count, f"trawl{number}", f"10.77.{number}")
    try:
        running.start()
        yield running
    finally:
        running.stop()
