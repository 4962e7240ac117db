"""Units of work on Ray, each done once: run anywhere, committed by creating one ledger file.

A unit writes its files into a folder of its own attempt, `work/PHASE/UNIT/ATTEMPT/`, and is done
when `ledger/PHASE/UNIT.json`, which names the attempt, was created: exclusively, so that of two
attempts (say a worker that outlived its driver, and the one that replaces it) one counts. What is
not in the ledger was never done, whatever lies in `work/`. Units are seconds long and exchange
files, never image bytes through Ray's object store.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from data_pipeline.recipe import CorpusRecipe
from trawl import storage
from trawl.errors import RequestError

WORK = "work"
LEDGER = "ledger"
Result = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """A piece of work: what to do (phase), which piece (name), and small JSON inputs.

    Units of the same lane never run at the same time: that is how limits per host hold.
    """

    phase: str
    name: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    lane: str = ""


@dataclass(frozen=True)
class Entry:
    """A ledger entry: the unit, the folder of the attempt that counts, and its small result.

    home is the corpus whose `work/` has the files, "" for this one.
    """

    phase: str
    name: str
    inputs: dict[str, Any]
    attempt: str
    result: Result
    worker: str
    home: str = ""


class Ledger:
    """The done units of the build at `out`."""

    def __init__(self, out: str) -> None:
        self.out = out

    def _place(self, phase: str, name: str) -> str:
        return storage.join(self.out, LEDGER, phase, f"{name}.json")

    def done(self, phase: str) -> dict[str, Entry]:
        """Return the entries of a phase by unit name."""
        folder = storage.join(self.out, LEDGER, phase)
        entries = (Entry(**storage.read_json(place)) for place in storage.list_files(folder))
        return {entry.name: entry for entry in entries}

    def commit(self, unit: Unit, attempt: str, result: Result) -> Entry:
        """Enter the unit as done by `attempt`; return the entry that counts, ours or an earlier."""
        entry = Entry(
            phase=unit.phase,
            name=unit.name,
            inputs=dict(unit.inputs),
            attempt=attempt,
            result=result,
            worker=f"{socket.gethostname()}/{os.getpid()}",
        )
        place = self._place(unit.phase, unit.name)
        if storage.create_exclusive(place, json.dumps(asdict(entry)).encode()):
            return entry
        storage.remove(storage.join(self.out, WORK, unit.phase, unit.name, attempt))
        return Entry(**storage.read_json(place))

    def adopt(self, entry: Entry, home: str) -> None:
        """Enter what another corpus has done, whose files stay in its own `work/`."""
        known = asdict(replace(entry, home=entry.home or home))
        storage.create_exclusive(self._place(entry.phase, entry.name), json.dumps(known).encode())

    def forget_phase(self, phase: str) -> None:
        """Take a phase for not done."""
        storage.remove(storage.join(self.out, LEDGER, phase))
        storage.remove(storage.join(self.out, WORK, phase))


def check_inputs(unit: Unit, entry: Entry) -> None:
    """Stop if a unit that is done had other inputs: the sources changed under the build."""
    if json.loads(json.dumps(dict(unit.inputs))) != entry.inputs:
        raise RequestError(
            f"ledger/{unit.phase}/{unit.name}.json: done from other inputs; the sources changed "
            "since: build into another --out"
        )


@dataclass(frozen=True)
class Work:
    """What a step sees while it runs a unit: the recipe, its own files and those of before."""

    out: str
    recipe: CorpusRecipe
    unit: Unit
    attempt: str

    def place(self, name: str) -> str:
        """Return the URI of an output file of this attempt."""
        return storage.join(self.out, WORK, self.unit.phase, self.unit.name, self.attempt, name)

    def earlier(self, phase: str, name: str) -> dict[str, str]:
        """Return the URIs of the file `name` of every unit of a finished phase, by unit name."""
        index = storage.read_json(storage.join(self.out, WORK, phase, "done.json"))
        return {unit: storage.join(folder, name) for unit, folder in index.items()}


def folder_of(out: str, entry: Entry) -> str:
    """Return the folder of the files of a unit that is done in the build at `out`."""
    return storage.join(entry.home or out, WORK, entry.phase, entry.name, entry.attempt)


def finish_phase(out: str, phase: str, entries: Mapping[str, Entry]) -> None:
    """Write the list of a phase's folders, one file that later units read instead of the ledger."""
    folders = {name: folder_of(out, entry) for name, entry in sorted(entries.items())}
    storage.write_json(storage.join(out, WORK, phase, "done.json"), folders)


def new_attempt() -> str:
    """Return a name for an attempt that no other attempt has; it reaches no file of the corpus."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
