"""Ranks of a run forked from one process that has imported everything: a run costs its own work.

Each rank goes through the program's entry, as torchrun would start it.
"""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.pretrain import runs

PATIENCE = 600.0


def _rank(arguments: list[str], environment: dict[str, str], said: str) -> None:
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from pretrain.__main__ import main

    code = main(arguments)
    sys.stderr.flush()
    os._exit(code)


class Ranks:
    """The ranks of one `python -m pretrain run RECIPE`; of `count`, the first `begin` if given."""

    def __init__(
        self,
        recipe: Path,
        count: int,
        *options: str,
        environment: Mapping[str, str] | None = None,
        begin: int | None = None,
    ) -> None:
        # Set where the forked-from process starts, before it loads torch.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.pretrain.forked_imports"])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self._said = recipe.with_suffix(f".{time.monotonic_ns()}.err")
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **(environment or {})}
        self.processes: list[BaseProcess] = []
        for rank in range(count if begin is None else begin):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            arguments = (["run", str(recipe), *options], shared | own, str(self._said))
            process = context.Process(target=_rank, args=arguments, daemon=True)
            process.start()
            self.processes.append(process)

    @property
    def said(self) -> str:
        return self._said.read_text(encoding="utf-8") if self._said.exists() else ""

    def wait(self) -> list[int | None]:
        """Wait for all ranks and return their exit codes."""
        for process in self.processes:
            process.join(PATIENCE)
        return [process.exitcode for process in self.processes]

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Wait until `seen` says yes; fails if a rank ends before that."""
        deadline = time.monotonic() + PATIENCE
        while not seen():
            assert all(process.exitcode is None for process in self.processes), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.002)

    def signal(self, number: int, only: int | None = None) -> None:
        """Send a signal to each rank, or to one of them."""
        for rank, process in enumerate(self.processes):
            if process.exitcode is None and process.pid and only in (None, rank):
                os.kill(process.pid, number)


def run(
    recipe: Path, count: int, *options: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run a recipe to its end on `count` ranks."""
    ranks = Ranks(recipe, count, *options, environment=environment)
    assert ranks.wait() == [0] * count, ranks.said


def losses(folder: Path) -> list[float]:
    """The loss of each step of a run, in order."""
    return [line["loss"] for line in runs.lines(folder)]
