"""Starts this machine's ranks of a run by torchrun, and says how they ended."""

import json
import logging
import math
import os
import signal
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pretrain.exit_codes import ExitCode, worst
from trawl.errors import RequestError

# Each rank leaves a file here that says how it ended: torchrun itself only knows that one failed.
_ENDINGS = "TRAWL_ENDINGS"


LOST = "lost another rank"
"""Words of a rank that ended for want of another."""


@dataclass(frozen=True)
class Ending:
    """How a rank, or the whole run, ended."""

    code: int
    message: str = ""
    time: float = 0.0
    """When the rank said so; the others often fail for want of the first that did."""


def leave_ending(rank: int, ending: Ending) -> None:
    """Tell the launcher, if there is one of ours, how this rank ended."""
    if folder := os.environ.get(_ENDINGS):
        Path(folder, f"{rank}.json").write_text(
            json.dumps(asdict(ending) | {"time": time.time()}), encoding="utf-8"
        )


def endings_are_read() -> bool:
    """Say whether a launcher of ours will tell the user how this rank ended."""
    return _ENDINGS in os.environ


@dataclass(frozen=True)
class Meeting:
    """Where the machines of a run meet, and which of them this one is."""

    nodes: int = 1
    node: int = 0
    """Counted from 0; it gives the ranks their numbers."""
    address: str = ""
    """HOST:PORT of node 0, as all can reach it; only one machine needs none."""

    def __post_init__(self) -> None:
        if not 0 <= self.node < self.nodes:
            raise RequestError(f"--node {self.node}: give 0 to {self.nodes - 1}, below --nodes")
        host, _, port = self.address.rpartition(":")
        if self.nodes > 1 and not (host and port.isdigit()):
            raise RequestError(
                f"--meet {self.address!r}: give HOST:PORT, a free port of the machine with --node 0"
            )

    def options(self) -> list[str]:
        """Return what torchrun is told of it."""
        if self.nodes == 1:
            return ["--standalone"]
        host, _, port = self.address.rpartition(":")
        place = ["--nnodes", str(self.nodes), "--node-rank", str(self.node)]
        return [*place, "--master-addr", host.strip("[]"), "--master-port", port]


ALONE = Meeting()


def launch(
    arguments: list[str], processes: int, grace_seconds: float, meeting: Meeting = ALONE
) -> Ending:
    """Run `python -m pretrain ARGUMENTS` in `processes` ranks here and wait for them.

    A rank that was told to stop may take `grace_seconds` to save; then it is killed.
    Alone, the rendezvous takes a free port. SIGTERM and SIGINT go on to the ranks, which save; when
    this process dies otherwise, the ranks die with it. The other machines see to their own ranks,
    and each returns how its own ended.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # What went wrong is told by us, in one line.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // processes)))
    os.environ["TRAWL_LAUNCHER"] = str(os.getpid())
    options = [*meeting.options(), "--nproc-per-node", str(processes)]
    options += ["--shutdown-timeout", str(math.ceil(grace_seconds))]
    with tempfile.TemporaryDirectory(prefix="trawl-ranks-") as folder:
        os.environ[_ENDINGS] = folder
        first = meeting.node * processes
        stopped, exits = False, dict.fromkeys(range(first, first + processes), 0)
        try:
            torchrun.run(torchrun.parse_args([*options, "-m", "pretrain", *arguments]))
        except ChildFailedError as error:
            exits |= {rank: failure.exitcode for rank, failure in error.failures.items()}
        except SignalException:
            stopped = True
        return together(Path(folder), exits, stopped)


def together(folder: Path, exits: dict[int, int], stopped: bool) -> Ending:
    """Return the run's ending from those of its ranks."""
    endings = [
        _ending(folder / f"{rank}.json", rank, code, stopped) for rank, code in exits.items()
    ]
    code = worst([ending.code for ending in endings])
    blamed = [ending for ending in endings if ending.code == code]
    # A rank that misses another may say so before that one has told why it left.
    return min(blamed, key=lambda ending: (LOST in ending.message, ending.time))


def _ending(path: Path, rank: int, exit_code: int, stopped: bool) -> Ending:
    """Return how `rank` ended by its own word or, if it left none, by its exit code."""
    if path.exists():
        return Ending(**json.loads(path.read_text(encoding="utf-8")))
    if stopped:
        return Ending(ExitCode.PREEMPTED, "told to stop before the training began")
    if exit_code == -signal.SIGKILL:
        return Ending(
            ExitCode.BAD_NODE, f"rank {rank} was killed from outside; is the machine out of memory?"
        )
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        return Ending(ExitCode.FAILURE, f"rank {rank} died of {name}; see its log")
    return Ending(ExitCode.FAILURE, f"rank {rank} ended without a word; see its log")
