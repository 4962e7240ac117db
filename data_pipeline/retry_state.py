"""How far each retry of a corpus is: a file of the ledger, so that a killed one goes on."""

from typing import Literal

from data_pipeline.units import LEDGER
from trawl import storage

# The corpus is as it was while a retry fetches; then it is taken apart and built anew.
State = Literal["fetching", "opening", "rebuilding", "done"]
FOLDER = "retries"


def retries(out: str) -> dict[int, State]:
    """Return the state of each retry by number."""
    places = storage.list_files(storage.join(out, LEDGER, FOLDER))
    found = (storage.read_json(place) for place in places)
    return {entry["retry"]: entry["state"] for entry in found}


def finished_retries(out: str) -> set[int]:
    """Return the retries whose images count."""
    return {number for number, state in retries(out).items() if state != "fetching"}


def enter(out: str, number: int, state: State) -> None:
    """Say that a retry has come to `state`."""
    place = storage.join(out, LEDGER, FOLDER, f"{number:04d}.json")
    storage.write_json(place, {"retry": number, "state": state})
