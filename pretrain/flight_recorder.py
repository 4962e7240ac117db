"""A rank's last collectives, as torch's flight recorder keeps them, for `trawl launch explain`.

RUN/logs/RANK.collectives.json: of each process group the last ones, in the order in which this rank
began them. Ranks that agree have begun the same; the first that differs is where they parted.
"""

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch._C import _distributed_c10d

from trawl import storage

_SUFFIX = ".collectives.json"
_KEPT = 16
# torch's own dump takes a lock that a broken device may hold.
_PATIENCE = 5.0


def enable() -> None:
    """Have torch keep the last collectives; before the first process group is made."""
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")


def place(log: Path) -> Path:
    """Return the file beside the log of a rank."""
    return log.with_name(log.stem + _SUFFIX)


def dump(log: Path) -> None:
    """Write this rank's last collectives beside its `log`, where torch can tell them."""

    def write() -> None:
        with suppress(Exception):  # nothing of this may keep a rank from giving up
            storage.write_json(place(log), collectives())

    thread = threading.Thread(target=write, name="flight-recorder", daemon=True)
    thread.start()
    thread.join(_PATIENCE)


def collectives() -> list[dict[str, Any]]:
    """Return the last collectives of each process group: group, number, name, sizes, done."""
    groups: dict[str, list[dict[str, Any]]] = {}
    # NCCL has a recorder of its own; a group's collectives are all in one of them.
    for name in ("_dump_fr_trace_json", "_dump_nccl_trace_json"):
        tell = getattr(_distributed_c10d, name, None)
        for entry in json.loads(tell(True, False)).get("entries", []) if tell else []:
            if not entry["is_p2p"]:
                group = ":".join(entry["process_group"])
                groups.setdefault(group, []).append(_told(group, entry))
    return [each for entries in groups.values() for each in entries[-_KEPT:]]


def _told(group: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "group": group,
        "number": entry["collective_seq_id"],
        "name": entry["profiling_name"].rpartition(":")[2],
        "sizes": entry["input_sizes"],
        "done": bool(entry["retired"]) or entry["state"] == "completed",
    }
