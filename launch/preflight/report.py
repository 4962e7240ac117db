"""What a machine tells of itself and of its links; files in the job's folder carry it."""

import re
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel

from trawl import storage

_TOLD = re.compile(r"report of machine: (\{.*\})$", re.MULTILINE)


class Arrival(BaseModel):
    """A machine that has begun, and where the others reach it."""

    node: int
    host: str
    """Its name, as an exclude list has it."""
    address: str
    ports: dict[str, int] = {}
    """Ports that it listens on, by what for: `meeting` and `any`."""
    machine: str = ""
    """The same for two nodes that share a network, as two slurmds on one host."""
    time: float = 0.0
    """Its clock as this was written."""
    problem: str | None = None
    """Why it does not listen on the meeting port."""


class Gpu(BaseModel):
    """A GPU as nvidia-smi tells of it."""

    index: int
    name: str
    memory_mib: float | None = None
    used_mib: float | None = None
    ecc_errors: int | None = None
    """Uncorrected, since the driver was loaded; None where it has no ECC."""
    clock_mhz: float | None = None
    """Highest clock that its multiprocessors may take."""
    slowed: list[str] = []
    """Reasons of the hardware for which it runs below its clock."""


class Disk(BaseModel):
    """Free space where the work writes."""

    path: str
    free_gb: float
    shared_memory: bool = False


class StoreProbe(BaseModel):
    """A place of the recipe that was tried."""

    uri: str
    purpose: str
    problem: str | None = None
    seconds: float = 0.0


class Contact(BaseModel):
    """A machine that was called at its ports."""

    node: int
    closed: dict[str, str] = {}
    """Ports that did not answer, by what for, with the reason."""
    ahead_seconds: float | None = None
    """By how much its clock is ahead of the caller's."""


class Link(BaseModel):
    """What the machine's own link to another gives, in Gbit/s."""

    node: int
    send_gbit: float | None = None
    reduce_gbit: float | None = None
    problem: str | None = None


class NodeReport(BaseModel):
    """All that one machine found."""

    arrival: Arrival
    versions: dict[str, str] = {}
    gpus: list[Gpu] = []
    disks: list[Disk] = []
    stores: list[StoreProbe] = []
    calls: int = 0
    """How many machines it called."""
    contacts: list[Contact] = []
    """Of those it called, the ones that did not answer or whose clocks are compared."""
    links: list[Link] = []
    problems: list[str] = []
    """Checks that themselves failed."""

    @property
    def host(self) -> str:
        """The machine's name."""
        return self.arrival.host


def place(folder: Path, kind: str, node: int) -> Path:
    """Return the file of a `kind` of word (arrival, called, report) from `node`."""
    return folder / f"{kind}-{node}.json"


def write(folder: Path, kind: str, node: int, content: BaseModel) -> None:
    """Leave a word in the folder, whole or not at all."""
    storage.write_text(place(folder, kind, node), content.model_dump_json() + "\n")


def arrivals(folder: Path, besides: Collection[int] = ()) -> dict[int, Arrival]:
    """Return the machines that have arrived, by number, `besides` those that are known."""
    known = {place(folder, "arrival", node) for node in besides}
    new = (path for path in folder.glob("arrival-*.json") if path not in known)
    found = (Arrival.model_validate_json(path.read_bytes()) for path in new)
    return {arrival.node: arrival for arrival in found}


def reports(folder: Path) -> list[NodeReport]:
    """Return the reports that are there, in the order of the machines."""
    found = (
        NodeReport.model_validate_json(path.read_bytes()) for path in folder.glob("report-*.json")
    )
    return sorted(found, key=lambda report: report.arrival.node)


def told(report: NodeReport) -> str:
    """Return the line of a log that holds a report, for those who share no folder with it."""
    return f"report of machine: {report.model_dump_json()}"


def keep_told(log: str, folder: Path) -> None:
    """Leave the reports that a log tells, and the arrivals in them, in the folder."""
    for found in _TOLD.finditer(log):
        report = NodeReport.model_validate_json(found.group(1))
        write(folder, "arrival", report.arrival.node, report.arrival)
        write(folder, "report", report.arrival.node, report)
