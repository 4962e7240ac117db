"""A Ray cluster whose machines are hosts of their own network; its dashboard takes jobs."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.hosts import Hosts

ROOT = Path(__file__).parents[2]
PORT, DASHBOARD = 29461, 29462
_PATIENCE = 600.0
_TOKEN = "a-token-of-this-test-alone-" * 2
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": _TOKEN,
    "OMP_NUM_THREADS": "1",
}
"""Environment of the cluster and of its clients."""


def missing() -> list[str]:
    """Return what the server of Ray's jobs needs and is not installed."""
    return [name for name in ("aiohttp_cors",) if importlib.util.find_spec(name) is None]


def forget_token() -> None:
    """Let Ray in this process read the token of its environment anew: it keeps the first one."""
    from ray._raylet import AuthenticationTokenLoader

    AuthenticationTokenLoader.instance().reset_cache()


def raylets(address: str) -> list[int]:
    """Return the raylets of the node at `address`."""
    mark = f"--node_ip_address={address}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if line.split(b"\0")[0].endswith(b"/raylet") and mark in line:
                found.append(int(process.name))
    return found


@dataclass
class RayCluster:
    """A running cluster; node 0 is its head."""

    hosts: Hosts
    folder: Path
    nodes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Address of the dashboard."""
        return f"http://{self.hosts.addresses[0]}:{DASHBOARD}"

    def start_node(self, node: int) -> None:
        """Start a node with one CPU and wait until the cluster has it.

        Ray gives itself thirty seconds, which a busy machine may need: then it begins again.
        """
        first, own = self.hosts.addresses[0], self.hosts.addresses[node]
        place = ["--address", f"{first}:{PORT}"]
        if node == 0:
            place = ["--head", "--port", str(PORT), "--temp-dir", str(self.folder)]
            place += ["--dashboard-host", "0.0.0.0", "--dashboard-port", str(DASHBOARD)]
        command = ["ip", "netns", "exec", self.hosts.space(node), sys.executable, "-m"]
        command += ["ray.scripts.scripts", "start", *place, "--node-ip-address", own]
        command += ["--num-cpus", "1", "--object-store-memory", str(100 << 20), "--block"]
        path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        environment = {**os.environ, **SETTINGS, "PYTHONPATH": path}
        deadline = time.monotonic() + _PATIENCE
        while True:
            assert time.monotonic() < deadline, self._said(node)
            with (self.folder / f"node-{node}.log").open("wb") as log:
                self.nodes[node] = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=environment,
                )
            if self._is_up(node, deadline):
                return

    def _is_up(self, node: int, deadline: float) -> bool:
        """Wait until a node is up; False if it has given up."""
        while time.monotonic() < deadline and self.nodes[node].poll() is None:
            if "Ray runtime started" in self._said(node) and (node or self._takes_jobs()):
                return True
            time.sleep(0.2)
        return False

    def _said(self, node: int) -> str:
        return (self.folder / f"node-{node}.log").read_text()

    def _takes_jobs(self) -> bool:
        request = urllib.request.Request(f"{self.address}/api/version")
        request.add_header("Authorization", f"Bearer {_TOKEN}")
        try:
            with urllib.request.urlopen(request, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def kill_raylet(self, node: int) -> None:
        """Kill the raylet of a node with -9."""
        for raylet in raylets(self.hosts.addresses[node]):
            os.kill(raylet, signal.SIGKILL)

    def stop(self) -> None:
        """End all nodes."""
        for process in self.nodes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.nodes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def ray_cluster(hosts: Hosts, folder: Path) -> Iterator[RayCluster]:
    """Run a cluster of all `hosts` whose files lie in `folder`, of a short path."""
    running = RayCluster(hosts, folder)
    try:
        for node in range(hosts.count):
            running.start_node(node)
        yield running
    finally:
        running.stop()
