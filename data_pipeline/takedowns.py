"""What was taken down from a corpus: kept as hashes alone, and heeded by all that is built there.

A record says that an address, a domain, an image or a look is not to come back, without saying
which: each entry is the SHA-256 of its kind and value. So it can be kept, and passed on, when the
thing itself must not be.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data_pipeline.corpus.schema import KEY_LENGTH
from data_pipeline.crawl.address import canonical, host_of
from trawl import storage
from trawl.errors import RequestError

FORGOTTEN = "forgotten"
FOLDER = "takedowns"
_FORMS = (
    ("address", re.compile(r"https?://[^\s/]\S*")),
    ("sha256", re.compile(r"[0-9a-fA-F]{64}")),
    ("key", re.compile(rf"[0-9a-fA-F]{{{KEY_LENGTH}}}")),
    ("phash", re.compile(r"[0-9a-fA-F]{16}")),
    ("domain", re.compile(r"(?:[\w-]+\.)+[A-Za-z][\w-]+")),
)


class Record(BaseModel):
    """One takedown, as it lies in `takedowns/NNNN.json`.

    entries are hashes of what the list named; images are hashes of the keys of the images that it
    hit, under whatever address; parent is the manifest's hash before, manifest_sha256 that after.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    state: Literal["found", "done"]
    parent: str
    entries: list[str]
    images: list[str]
    candidates: int = 0
    samples: int = 0
    shards: list[str] = []
    manifest_sha256: str = ""


def read_list(place: str) -> set[str]:
    """Return the hashed entries of a list: an address, domain, hash, key or look a line.

    RequestError names the first line that is none of them; `#` begins a comment.
    """
    found = set()
    for number, line in enumerate(storage.read_text(place).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        kind = next((kind for kind, form in _FORMS if form.fullmatch(text)), None)
        if kind is None:
            raise RequestError(
                f"{place}: line {number}: {text[:80]!r} is no http address, domain, SHA-256 (64 "
                f"hex digits), key ({KEY_LENGTH}) or perceptual hash (16)"
            )
        found.add(hashed(kind, text if kind == "address" else text.lower()))
        if kind == "address":
            found.add(hashed(kind, canonical(text) or text))
    if not found:
        raise RequestError(f"{place}: nothing to take down in it; name one thing a line")
    return found


def hashed(kind: str, value: str) -> str:
    """Return what stands for a thing in a record."""
    return hashlib.sha256(f"{kind}:{value}".encode()).hexdigest()


def image_hash(sha256: str) -> str:
    """Return what stands for an image in a record."""
    return hashed("key", sha256[:KEY_LENGTH])


def records(uri: str) -> list[Record]:
    """Return the takedowns of a corpus, in order."""
    places = storage.list_files(storage.join(uri, FOLDER))
    return [Record.model_validate_json(storage.read_bytes(place)) for place in places]


def write_record(uri: str, record: Record) -> None:
    """Write a record into the corpus at `uri`."""
    place = storage.join(uri, FOLDER, f"{record.number:04d}.json")
    storage.write_json(place, record.model_dump())


def copy_takedowns(uri: str, out: str) -> None:
    """Let what is built at `out` heed the takedowns of the corpus at `uri`."""
    for record in records(uri):
        write_record(out, record)


def forgotten_candidate(row: dict[str, Any]) -> dict[str, Any]:
    """Return a candidate without what its page said, and with the reason."""
    empty = {"alternatives": "[]", "texts": "[]", "robots": "[]", "notes": "{}"}
    return {**row, **empty, "licence": "", "extra": "", "reason": FORGOTTEN}


class Takedowns:
    """Says of addresses and images whether they are taken down."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = frozenset(entries)

    @classmethod
    def of(cls, uri: str) -> "Takedowns":
        """Return all that was taken down from the corpus at `uri`."""
        found = records(uri)
        return cls(entry for record in found for entry in (*record.entries, *record.images))

    def __bool__(self) -> bool:
        return bool(self._entries)

    def take_address(self, url: str, page: str = "") -> bool:
        """Say whether an image's address or its page, or the domain of either, is taken down."""
        return bool(self._entries) and any(
            hashed("address", address) in self._entries
            or any(hashed("domain", name) in self._entries for name in _domains(address))
            for address in (url, page)
            if address
        )

    def take_key(self, key: str) -> bool:
        """Say whether the image with a sample's key is taken down."""
        return bool(key) and hashed("key", key) in self._entries

    def take_image(self, sha256: str, phash: str = "") -> bool:
        """Say whether an image is taken down by its hash, its key or its look."""
        return bool(self._entries) and (
            (bool(sha256) and hashed("sha256", sha256) in self._entries)
            or (bool(sha256) and image_hash(sha256) in self._entries)
            or (bool(phash) and hashed("phash", phash) in self._entries)
        )


def _domains(address: str) -> list[str]:
    """Return the host of an address and the domains above it."""
    labels = host_of(address).lower().split(".") if "://" in address else []
    return [".".join(labels[start:]) for start in range(len(labels) - 1)]
