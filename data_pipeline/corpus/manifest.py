"""The manifest of a corpus: what lies in it, shard by shard, with checksums.

It holds no time, no host and no path of the machine that made it: equal corpora have equal
manifests, and the SHA-256 of the manifest's bytes names the corpus.
"""

import hashlib
import json

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trawl import storage
from trawl.errors import RequestError

FORMAT = "trawl-corpus"
VERSION = 1
NAME = "manifest.json"


class _Strict(BaseModel):
    """Base of the models below: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DetectorRecord(_Strict):
    """Which detector found the regions; `objects` and `attributes` are the names by id."""

    name: str
    weights_sha256: str
    selection: str
    features: str
    feature_size: int
    objects: list[str]
    attributes: list[str]

    def stamp(self) -> dict[str, str]:
        """Return what every sample's regions carry of this."""
        names = ("name", "selection", "weights_sha256")
        return {name: str(getattr(self, name)) for name in names}


class ShardRecord(_Strict):
    """One shard: tar and index lie in `shards/` under `name` and `name` with `.index` for `.tar`.

    samples, regions and captions are counts; bytes and sha256 are the tar's.
    """

    name: str = Field(pattern=r"^[0-9a-zA-Z_-]+\.tar$")
    samples: int = Field(ge=0)
    captions: int = Field(ge=0)
    regions: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    index_sha256: str


class DecisionsRecord(_Strict):
    """One parquet file in `decisions/`."""

    name: str = Field(pattern=r"^[0-9a-zA-Z_-]+\.parquet$")
    rows: int = Field(ge=0)
    sha256: str


class Manifest(_Strict):
    """The content of `manifest.json`; counts are totals over the shards.

    recipe_sha256 is the hash of the resolved recipe without places and machine settings;
    scorer_sha256 is that of the model of image-text agreement, "" where nothing was scored;
    parents are the manifests' hashes of the corpora that this one was made from; funnel counts
    the candidates by "step/reason".
    """

    format: str = Field(default=FORMAT, pattern=f"^{FORMAT}$")
    version: int = Field(default=VERSION, ge=1, le=VERSION)
    name: str
    samples: int
    captions: int
    regions: int
    bytes: int
    recipe_sha256: str
    scorer_sha256: str = ""
    parents: list[str] = []
    detector: DetectorRecord
    funnel: dict[str, int]
    shards: list[ShardRecord]
    decisions: list[DecisionsRecord]

    def to_json(self) -> str:
        """Return the text of `manifest.json`: sorted keys, so that equal manifests are equal."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    def sha256(self) -> str:
        """Return the hash that names the corpus."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def write_manifest(uri: str, manifest: Manifest) -> None:
    """Write the manifest of the corpus at `uri`: the last file, which makes the corpus complete."""
    storage.write_text(storage.join(uri, NAME), manifest.to_json())


def manifest_sha256(uri: str) -> str:
    """Return the hash of the manifest's bytes as they lie in the corpus at `uri`."""
    return storage.sha256_of(storage.join(uri, NAME))


def read_manifest(uri: str) -> Manifest:
    """Read the manifest of the corpus at `uri`; RequestError if there is none or it is damaged."""
    place = storage.join(uri, NAME)
    if not storage.exists(place):
        raise RequestError(f"{uri}: no {NAME}; a corpus has one once `trawl corpus build` is done")
    try:
        return Manifest.model_validate_json(storage.read_bytes(place))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise RequestError(f"{place}: {key}: {first['msg']}") from error
