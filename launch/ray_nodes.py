"""A pretraining on a Ray cluster: the driver of a Ray job that runs torchrun on each machine.

    python -m launch.ray_nodes --name oscar-1 --nodes 2 -- trawl pretrain run oscar --processes 8

An actor on each of as many machines, spread by a placement group, starts the command and says how
it ends; a machine that dies is one that left no word. `--stop` tells the actors of a job to save
and end: a Ray job that is stopped has three seconds.
"""

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from pretrain.exit_codes import ExitCode, NodeError, worst
from trawl.errors import TrawlError
from trawl.parent import start

_NAMESPACE = "trawl"
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 60.0
# For so long it waits for all machines, before it takes as few as it may; and for those.
_ALL_SECONDS = 20.0
_LEAST_SECONDS = 300.0
# Once one machine has ended, the others end too: of themselves, or because they miss it.
_LAST_SECONDS = 300.0


class NodeAgent:
    """Runs one machine's part; each call returns at once, so that none waits for another."""

    def __init__(self) -> None:
        self._work: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the actor
        self._told = 0

    def address(self) -> str:
        """Return where the others reach this machine."""
        import ray

        return str(ray.util.get_node_ip_address())

    def start(self, script: str) -> None:
        """Start the part, in a process group that dies with this actor."""
        self._work = start(["bash", "-c", script], self._log)

    def poll(self) -> tuple[int | None, str]:
        """Return the exit code, None while it runs, and what it printed since the last call."""
        code = self._work.poll() if self._work else None
        said = os.pread(self._log.fileno(), 1 << 20, self._told)
        self._told += len(said)
        if code is not None:
            self.kill()  # what the part itself may have left
        return code, said.decode("utf-8", "replace")

    def stop(self) -> None:
        """Tell the part to save and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the part at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._work is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._work.pid, number)


class Driver:
    """Starts the parts on the machines that there are, and waits for them."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.codes: dict[int, int] = {}

    def run(self) -> int:
        """Run the parts to their end; return the code of all together.

        Raises NodeError if there are too few machines.
        """
        import ray

        ray.init(address="auto", namespace=_NAMESPACE, log_to_driver=False)
        agents = self._place(ray)
        first = ray.get(agents[0].address.remote(), timeout=_ANSWER_SECONDS)
        print(f"trawl: {len(agents)} machines, the first is {first}", flush=True)
        started = [
            agent.start.remote(self._script(node, len(agents), first))
            for node, agent in enumerate(agents)
        ]
        for node, handle in enumerate(started):
            with self._losing(ray, node):
                ray.get(handle, timeout=_ANSWER_SECONDS)
        ended_at: float | None = None
        while len(self.codes) < len(agents):
            time.sleep(_POLL_SECONDS)
            for node, agent in enumerate(agents):
                if node not in self.codes:
                    self._look(ray, node, agent)
            if self.codes and ended_at is None:
                ended_at = time.monotonic()
            patience = _LAST_SECONDS + self.asked.grace
            if ended_at is not None and time.monotonic() - ended_at > patience:
                for node in set(range(len(agents))) - self.codes.keys():
                    agents[node].kill.remote()
        return worst([ExitCode.BAD_NODE if code < 0 else code for code in self.codes.values()])

    def _look(self, ray: Any, node: int, agent: Any) -> None:
        """See whether a part has ended, and show what it printed."""
        with self._losing(ray, node):
            code, said = ray.get(agent.poll.remote(), timeout=_ANSWER_SECONDS)
            for line in said.splitlines():
                print(f"{node}: {line}", flush=True)
            if code is not None:
                self.codes[node] = code

    @contextlib.contextmanager
    def _losing(self, ray: Any, node: int) -> Any:
        """Take a machine that does not answer any more for a bad one."""
        try:
            yield
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            print(f"trawl: machine {node} is lost: {first}", flush=True)
            self.codes.setdefault(node, ExitCode.BAD_NODE)

    def _place(self, ray: Any) -> list[Any]:
        """Return an agent on each of the machines, as many as there are of those that are asked."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        asked = self.asked
        size = {"CPU": asked.cpus, **({"GPU": asked.gpus} if asked.gpus else {})}
        count = self._machines(ray, size)
        group = placement_group([size] * count, strategy="STRICT_SPREAD")
        if not group.wait(_LEAST_SECONDS):
            raise NodeError(f"{count} machines with {size} are there and in use by other jobs")
        agents = []
        for number in range(count):
            where = PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=number
            )
            kind = ray.remote(max_restarts=0)(NodeAgent)
            options = {"num_cpus": asked.cpus, "num_gpus": asked.gpus, "scheduling_strategy": where}
            agents.append(kind.options(name=f"{asked.name}/{number}", **options).remote())
        return agents

    def _machines(self, ray: Any, size: dict[str, float]) -> int:
        """Return on how many machines to run: all, or once they had time to come, the least."""
        began = time.monotonic()
        while True:
            fit = sum(
                node["Alive"] and all(node["Resources"].get(key, 0) >= n for key, n in size.items())
                for node in ray.nodes()
            )
            waited = time.monotonic() - began
            if fit >= self.asked.nodes or (waited > _ALL_SECONDS and fit >= self.asked.least):
                return int(min(fit, self.asked.nodes))
            if waited > _LEAST_SECONDS:
                raise NodeError(
                    f"{fit} machines of the cluster have {size}; {self.asked.least} must"
                )
            time.sleep(_POLL_SECONDS)

    def _script(self, node: int, nodes: int, first: str) -> str:
        words = list(self.asked.words)
        if nodes > 1:
            words += ["--nodes", str(nodes), "--node", str(node)]
            words += ["--meet", f"{first}:{self.asked.port}"]
        lines = [f"cd {shlex.quote(self.asked.folder)}"] if self.asked.folder else []
        work = f"exec {shlex.join([self.asked.python, '-m', *words])}"
        return " && ".join([*lines, *self.asked.setup, work])


def stop(name: str) -> None:
    """Tell all parts of the job `name` to save and end."""
    import ray

    ray.init(address="auto", namespace=_NAMESPACE, log_to_driver=False)
    for known in ray.util.list_named_actors():
        if known.startswith(f"{name}/"):
            ray.get(ray.get_actor(known).stop.remote(), timeout=_ANSWER_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    """Run, or stop, what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m launch.ray_nodes", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--port", type=int, default=29400)
    parser.add_argument("--grace", type=float, default=60.0)
    parser.add_argument("--folder", default="")
    parser.add_argument("--setup", action="append", default=[], metavar="LINE")
    parser.add_argument("--python", default="python")
    parser.add_argument("words", nargs="*")
    asked = parser.parse_args(arguments)
    if asked.stop:
        stop(asked.name)
        return 0
    try:
        return Driver(asked).run()
    except TrawlError as error:
        print(f"trawl: {error} ({socket.gethostname()})", file=sys.stderr)
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
