"""How shards are read: what a recipe says of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEFAULT_BYTES = 200_000_000_000


@dataclass(frozen=True)
class Reading:
    """How the shards of a corpus are read.

    cache: folder of the copies of remote shards, `default_cache()` if None; cache_bytes: most that
    they take, all processes of the machine together; check: when a shard's hash is compared with
    the manifest's (as it is fetched, also when a local one is first opened, or never); bad_shards:
    whether a shard that is missing or not as the manifest says ends the reading, or its samples
    are replaced.
    """

    cache: Path | None = None
    cache_bytes: int = DEFAULT_BYTES
    check: Literal["never", "fetched", "always"] = "fetched"
    bad_shards: Literal["fail", "skip"] = "fail"
