"""The images of an extraction: those of a corpus' shards, or the files of a folder.

Either is cut into units, one for each shard to come, in which images lie in the order of their
keys. A folder is read twice: once for the hashes that order it, once for the pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from data_pipeline.corpus.manifest import NAME, Manifest, manifest_sha256
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.schema import KEY_LENGTH
from data_pipeline.images import ImageError
from trawl import storage
from trawl.errors import RequestError

MAX_FILE_BYTES = 100 << 20


@dataclass(frozen=True)
class Candidate:
    """One image: its bytes or why there are none, and what its corpus said of it, if it had one."""

    url: str
    page: str
    position: int
    sha256: str
    data: bytes | ImageError
    meta: dict[str, Any] | None

    @property
    def key(self) -> str:
        """The key of its sample."""
        return self.sha256[:KEY_LENGTH]


class ImageSource(Protocol):
    """Images in units; `inputs` of a unit change whenever its images do."""

    images: int
    units: int
    parent: Manifest | None
    parents: list[str]

    def inputs(self, unit: int) -> dict[str, Any]:
        """Return what goes into the ledger for a unit."""

    def candidates(self, unit: int) -> Iterator[Candidate]:
        """Yield the images of a unit by rising key; those without one may come anywhere."""


def open_images(uri: str, samples: int) -> ImageSource:
    """Open a corpus, or a folder of images with `samples` to a shard; RequestError if neither."""
    if storage.exists(storage.join(uri, NAME)):
        return CorpusImages(uri)
    if not storage.exists(uri):
        raise RequestError(f"{uri}: neither a corpus nor a folder of images")
    return FolderImages(uri, samples)


class CorpusImages:
    """The images of a corpus, a unit a shard."""

    def __init__(self, uri: str) -> None:
        self._corpus = Corpus(uri)
        self.parent: Manifest | None = self._corpus.manifest
        self.parents = [manifest_sha256(uri)]
        self.units = len(self._corpus.manifest.shards)
        self.images = len(self._corpus)
        if self.images and self._corpus.image(0) is None:
            raise RequestError(f"{uri}: was made without images; build or import it with them")

    def inputs(self, unit: int) -> dict[str, Any]:
        """Return the hash of the shard."""
        return {"shard": self._corpus.manifest.shards[unit].sha256}

    def candidates(self, unit: int) -> Iterator[Candidate]:
        """Yield the samples of one shard."""
        shard = self._corpus.shard(unit)
        for number in range(len(shard)):
            meta = shard.sample(number).meta
            data = shard.image(number)
            yield Candidate(
                meta["url"],
                meta["page"],
                number,
                meta["sha256"],
                ImageError("no-image") if data is None else data,
                meta,
            )


@dataclass(frozen=True)
class _File:
    """One file of a folder: its hash, its name in there, and why it was not read, if so."""

    sha256: str
    name: str
    reason: str = ""
    detail: str = ""


class FolderImages:
    """The files of a folder and of those below it; each is an image or becomes a decision."""

    parent: Manifest | None = None

    def __init__(self, uri: str, samples: int) -> None:
        self._uri = uri.rstrip("/")
        self._samples = samples
        self._files = sorted(self._listed(), key=lambda file: (file.sha256, file.name))
        self.parents: list[str] = []
        self.images = len(self._files)
        self.units = -(-self.images // samples)
        if not self._files:
            raise RequestError(f"{uri}: no file lies there; give a folder of images or a corpus")

    def _listed(self) -> Iterator[_File]:
        """Yield every file with its hash; of several with the same bytes one is taken."""
        seen: dict[str, str] = {}
        for place in storage.list_files(self._uri):
            name = place[len(self._uri) :].lstrip("/")
            size = storage.size(place)
            if size == 0:
                yield _File("", name, "empty")
            elif size > MAX_FILE_BYTES:
                yield _File("", name, "too-many-bytes", f"{size:,}")
            else:
                digest = storage.sha256_of(place)
                if digest in seen:
                    yield _File(digest, name, "duplicate", seen[digest])
                else:
                    seen[digest] = name
                    yield _File(digest, name)

    def _group(self, unit: int) -> list[_File]:
        return self._files[unit * self._samples : (unit + 1) * self._samples]

    def inputs(self, unit: int) -> dict[str, Any]:
        """Return a hash over names and hashes of the unit's files."""
        listed = "\n".join(f"{file.sha256} {file.name}" for file in self._group(unit))
        return {"files": hashlib.sha256(listed.encode()).hexdigest()}

    def candidates(self, unit: int) -> Iterator[Candidate]:
        """Read the files of a unit, one by one."""
        for number, file in enumerate(self._group(unit), unit * self._samples):
            yield Candidate(file.name, "", number, file.sha256, self._content(file), None)

    def _content(self, file: _File) -> bytes | ImageError:
        if file.reason:
            return ImageError(file.reason, file.detail)
        data = storage.read_bytes(storage.join(self._uri, file.name))
        if hashlib.sha256(data).hexdigest() != file.sha256:
            return ImageError("changed", "while the extraction ran")
        return data
