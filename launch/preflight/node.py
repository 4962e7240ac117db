"""One machine's part of a preflight: looks at itself, calls the others, measures its links.

    python -m launch.preflight.node FOLDER --nodes 2 --node 0 --host FIRST --name HOST

FOLDER is the preflight's own in the job's folder, which the machines share; every word that they
leave each other is a file there, so that no broken network keeps one from telling of it.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from launch import attempts
from launch.job import Job
from launch.meeting import own_address
from launch.node import last_words, secret_values
from launch.preflight import calls, machine, stores
from launch.preflight.report import Arrival, Link, NodeReport, arrivals, place, told, write
from launch.preflight.rounds import partner, rounds
from trawl import recipe
from trawl.parent import die_with_parent

_POLL_SECONDS = 0.1
# The folder lies on a server that all of them ask.
_POLL_SECONDS_A_NODE = 0.002
_CALL_SECONDS = 10.0


class NodeCheck:
    """The checks of one machine."""

    def __init__(self, job: Job, folder: Path, node: int, nodes: int, arrival: Arrival) -> None:
        self.job, self.folder, self.node, self.nodes = job, folder, node, nodes
        self.patience = job.preflight.patience_seconds
        self.poll_seconds = _POLL_SECONDS + _POLL_SECONDS_A_NODE * nodes
        self.report = NodeReport(arrival=arrival)

    def run(self) -> None:
        """Make all checks and leave the report, whatever becomes of them."""
        report, arrival = self.report, self.report.arrival
        write(self.folder, "seen", self.node, arrival)
        with calls.listening(self.job.place.port) as (arrival.ports, arrival.problem):
            if arrival.problem and self._shares_network():
                arrival.problem = None
            arrival.time = time.time()
            write(self.folder, "arrival", self.node, arrival)
            with self.noting("versions"):
                report.versions = machine.versions()
            with self.noting("GPUs"):
                report.gpus = machine.gpus()
            with self.noting("recipe"):
                # Where the work runs from has the job's recipe.
                report.stores = stores.probe(self.job, self.patience)
                folders = [Path.cwd(), self.folder, *stores.written(self.job)]
                report.disks = machine.disks(folders)
            there = self.wait_for("arrival")
            with self.noting("calls"):
                known = {n: a for n, a in arrivals(self.folder).items() if n in there}
                called = calls.call_all(self.node, known, min(_CALL_SECONDS, self.patience))
                report.calls = len(called)
                report.contacts = [c for c in called if c.closed or c.ahead_seconds is not None]
            write(self.folder, "called", self.node, report)
            self.wait_for("called")
        with self.noting("links"):
            report.links = self._links()
        write(self.folder, "report", self.node, report)

    def _shares_network(self) -> bool:
        """Whether another node is on the same machine, and so has its meeting port."""
        own = self.report.arrival
        seen = (
            Arrival.model_validate_json(p.read_bytes()) for p in self.folder.glob("seen-*.json")
        )
        return any(each.machine == own.machine and each.node != own.node for each in seen)

    def wait_for(self, kind: str) -> set[int]:
        """Wait until all machines left this word, or patience ends; return which did."""

        def there() -> set[int]:
            names = {path.name for path in self.folder.glob(f"{kind}-*.json")}
            return {n for n in range(self.nodes) if f"{kind}-{n}.json" in names}

        # The others' own checks may use up their patience first.
        self._until(lambda: len(there()) == self.nodes, 3 * self.patience)
        return there()

    def _until(self, seen: Callable[[], bool], patience: float | None = None) -> None:
        deadline = time.monotonic() + (patience or self.patience)
        while not seen() and time.monotonic() < deadline:
            time.sleep(self.poll_seconds)

    def _plan(self) -> list[tuple[int, int]]:
        """Return in which rounds to measure with whom: partners that are reached both ways."""
        plan = []
        closed = self._unreachable(self.report)
        for number in rounds(self.nodes, self.job.preflight.partners) if self.nodes > 1 else ():
            other = partner(self.node, number, self.nodes)
            if other is None or other in closed:
                continue
            file = place(self.folder, "called", other)
            if not file.exists():
                continue
            if self.node not in self._unreachable(
                NodeReport.model_validate_json(file.read_bytes())
            ):
                plan.append((number, other))
        return plan

    def _unreachable(self, report: NodeReport) -> set[int]:
        return {contact.node for contact in report.contacts if "any" in contact.closed}

    def _links(self) -> list[Link]:
        """Measure the links of the plan, in a new process where one of them ended the last."""
        plan = self._plan()
        file = self.folder / f"links-{self.node}.jsonl"
        found: dict[int, Link] = {}
        while left := [step for step in plan if step[1] not in found]:
            before = len(found)
            self._measure(left, file)
            for line in file.read_text(encoding="utf-8").splitlines():
                link = Link.model_validate_json(line)
                found[link.node] = link
            if len(found) == before:
                raise RuntimeError(last_words(self.folder / f"links-{self.node}.log"))
        return list(found.values())

    def _measure(self, plan: list[tuple[int, int]], file: Path) -> None:
        words = [sys.executable, "-m", "launch.preflight.links", str(self.folder)]
        words += ["--node", str(self.node), "--patience", str(self.patience)]
        words += ["--plan", ",".join(f"{number}:{other}" for number, other in plan)]
        log = self.folder / f"links-{self.node}.log"
        with file.open("ab") as out, log.open("ab") as errors:
            subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                check=False,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Note a check that itself fails, and go on with the others."""
        try:
            yield
        except Exception as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.report.problems.append(f"{what}: {said}")


def _judge(check: NodeCheck) -> None:
    """Judge all machines where nobody else waits for them, and print the table."""
    from rich.console import Console

    from launch.preflight.run import judge
    from launch.preflight.table import table

    check.wait_for("report")
    known = arrivals(check.folder)
    silent = [(f"node {n}", "did not arrive") for n in range(check.nodes) if n not in known]
    hosts = [arrival.host for _, arrival in sorted(known.items())]
    Console(width=120).print(table(judge(check.job, check.folder, hosts, silent, {}, check.folder)))


def main(arguments: list[str] | None = None) -> int:
    """Do this machine's part, as the command line says which."""
    parser = argparse.ArgumentParser(prog="python -m launch.preflight.node", description=__doc__)
    parser.add_argument("folder", type=Path, help="the preflight's folder")
    parser.add_argument("--job", type=Path, help="the job file, if it is not in the folder")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--node", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1", help="the first machine")
    parser.add_argument("--meet", help="the first machine, as HOST:PORT")
    parser.add_argument("--name", help="this machine's name in an exclude list")
    parser.add_argument(
        "--judge", action="store_true", help="print the report; the first machine judges them all"
    )
    asked = parser.parse_args(arguments)
    first = asked.meet.rpartition(":")[0] if asked.meet else asked.host
    job = recipe.load(asked.job, Job) if asked.job else attempts.job_of(asked.folder)
    asked.folder.mkdir(parents=True, exist_ok=True)
    arrival = Arrival(
        node=asked.node,
        host=asked.name or os.uname().nodename,
        address=own_address(first, asked.node),
        machine=calls.network(),
    )
    check = NodeCheck(job, asked.folder, asked.node, asked.nodes, arrival)
    with check.noting("secrets"):
        os.environ.update(secret_values(job.secrets))
    check.run()
    if asked.judge:
        print(told(check.report), flush=True)
    if asked.judge and asked.node == 0:
        _judge(check)
    # A trial of a store that never answers still sits in a thread.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
