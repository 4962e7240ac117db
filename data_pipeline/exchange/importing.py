"""From foreign features to a corpus: rows become samples in shards, or decisions that say why not.

Memory: the samples of one shard, for a shard is sorted by key, and the keys of all.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.corpus.index import open_index
from data_pipeline.corpus.manifest import DetectorRecord, Manifest
from data_pipeline.corpus.reader import Corpus, default_cache
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.corpus.schema import (
    IMAGE_EXTENSIONS,
    KEY_LENGTH,
    MAX_META_BYTES,
    Caption,
    RegionText,
    SampleMeta,
)
from data_pipeline.corpus.writer import FOLDER, PackedSample, index_name
from data_pipeline.derived import (
    EVENTS,
    ShardUnits,
    claim,
    content_hash,
    decision,
    is_complete,
)
from data_pipeline.exchange.captions import Captions
from data_pipeline.exchange.recipe import PLACES, ImportRecipe
from data_pipeline.exchange.rows import UNKNOWN, ImportedImage, Row, RowError, Source
from data_pipeline.exchange.vocabulary import MAX_NAMES, UNKNOWN_NAME
from data_pipeline.images import ImageError, read_header
from data_pipeline.steps.detect import tags_of
from trawl import storage
from trawl.errors import WorkError
from trawl.events import EventLog
from trawl.progress import leg

PHASE = "import"
_IMAGE_SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_FEATURE_SIZE = 2048
"""Size of the features of a corpus in which no image has a region."""


def import_corpus(source: Source, recipe: ImportRecipe, out: str) -> Manifest:
    """Write the rows of `source` as a corpus at `out`, or finish what was begun there.

    RequestError: the source changed since, or another corpus lies at `out`. WorkError: no row of
    the source could be taken; it names the first and its fault.
    """
    digest = claim(out, recipe, PLACES)
    if is_complete(out):
        return Corpus(out).manifest
    work = _Import(source, recipe, ShardUnits(out, PHASE))
    with EventLog(storage.join(out, EVENTS)) as log, leg("import") as progress:
        log.write("import", source_kind=recipe.kind, done=len(work.units.done))
        for number, samples in work.run():
            log.write("import-shard", shard=number, samples=samples)
            progress.advance(samples)
    if not work.taken:
        raise WorkError(f"{source.place}: no row could be taken; the first: {work.first_fault}")
    names = source.objects + [UNKNOWN_NAME] * work.unknown
    detector = DetectorRecord(
        name=recipe.detector or recipe.kind,
        weights_sha256="",
        selection=recipe.selection or "imported",
        features=recipe.features,
        feature_size=work.feature_size,
        objects=names,
        attributes=source.attributes,
    )
    return work.units.finish(recipe.name, digest, detector)


class _Import:
    """One import under way: what holds from shard to shard."""

    def __init__(self, source: Source, recipe: ImportRecipe, units: ShardUnits) -> None:
        self.source, self.recipe, self.units = source, recipe, units
        self.feature_size = 0
        self.unknown = False
        self.taken = 0
        self.first_fault = "there is no row"
        self._captions = Captions(recipe.captions)
        self._keys: set[str] = set()

    def run(self) -> Iterator[tuple[int, int]]:
        """Do the units that are not done; yield the number of each and its samples."""
        number, ended = 0, False
        identity = _identity(self.source.place, self.recipe)
        while number in self.units.done and not ended:
            inputs = {"first": number * self.recipe.samples, **identity}
            entry = self.units.done[self._check(number, inputs)]
            self._recall(entry.result)
            number, ended = number + 1, bool(entry.result["last"])
        if ended:
            return
        self.feature_size = self.feature_size or _feature_size(self.source)
        first = number * self.recipe.samples
        rows = self.source.rows(first)
        waiting = next(rows, None)
        while waiting is not None or number == 0:
            group = [] if waiting is None else [waiting]
            group += itertools.islice(rows, self.recipe.samples - 1) if group else []
            waiting = next(rows, None)
            inputs = {"first": number * self.recipe.samples, **identity}
            yield number, self._write(number, inputs, group, last=waiting is None)
            number += 1

    def _check(self, number: int, inputs: dict[str, Any]) -> int:
        self.units.unit(number, inputs)
        return number

    def _recall(self, result: dict[str, Any]) -> None:
        """Take up what a unit that is done says about the import as a whole."""
        self.feature_size = self.feature_size or result["feature_size"]
        self.unknown |= result["unknown"]
        self.taken += result["shard"]["samples"]
        if result["fault"] and not self.taken:
            self.first_fault = result["fault"]
        shard = result["shard"]
        table = storage.join(self.units.out, FOLDER, index_name(shard["name"]))
        rows = open_index(storage.local_path(table, default_cache() / shard["index_sha256"][:16]))
        self._keys.update(key.decode() for key in rows["key"])

    def _write(self, number: int, inputs: dict[str, Any], group: list[Row], last: bool) -> int:
        """Write one shard with its decisions; return how many samples it has."""
        samples: dict[str, PackedSample] = {}
        decided = []
        fault = ""
        for row in map(_printable, group):
            try:
                sample, told = self._sample(row)
                samples[sample.key] = sample
                decided.append(told)
            except RowError as error:
                fault = fault or f"row {row.number + 1} ({row.image_id or 'no id'}): {error}"
                decided.append(self._drop(row, error))
        self.taken += len(samples)
        if fault and self.first_fault == "there is no row":
            self.first_fault = fault
        ordered = [samples[key] for key in sorted(samples)]
        result = {
            "last": last,
            "feature_size": self.feature_size,
            "unknown": self.unknown,
            "fault": fault,
        }
        self.units.commit(self.units.unit(number, inputs), ordered, decided, result)
        return len(samples)

    def _sample(self, row: Row) -> tuple[PackedSample, dict[str, Any]]:
        """Return the sample of a row and the decision that keeps it; RowError if it is dropped."""
        if isinstance(row.content, RowError):
            raise row.content
        image = row.content
        data = image.image or self._image_of(row.image_id)
        image = _sized(image, data)
        regions = self._regions(image.regions).stored_as(self.recipe.features)
        blob = encode(regions)
        if data is None:
            sha256 = content_hash(row.image_id.encode(), blob)
        else:
            sha256 = hashlib.sha256(data).hexdigest()
        key = sha256[:KEY_LENGTH]
        if key in self._keys:
            raise RowError("duplicate", f"the same content as an earlier row, {key}")
        try:
            meta = self._meta(row, image, regions, sha256)
            text = meta.to_bytes()
        except ValueError as error:  # half a character pair, which JSON can spell and UTF-8 cannot
            raise RowError("bad-text", str(error).splitlines()[0]) from error
        if len(text) > MAX_META_BYTES:
            raise RowError("too-long", f"{len(text):,} bytes of captions and phrases")
        members = {"json": text, "regions": blob}
        if data is not None:
            members[IMAGE_EXTENSIONS[read_header(data).kind]] = data
        self._keys.add(key)
        return PackedSample(key, members), self._keep(row, meta, key, image.notes)

    def _regions(self, regions: Regions) -> Regions:
        """Check ids and size of the features against those of the corpus; name unknown classes."""
        ids = regions.object_ids
        if ids.size and int(ids.max()) >= len(self.source.objects):
            raise RowError("bad-id", f"object {ids.max()} of {len(self.source.objects)} names")
        attributes = regions.attribute_ids
        if attributes.size and int(attributes.max()) >= len(self.source.attributes):
            count = len(self.source.attributes)
            raise RowError("bad-id", f"attribute {attributes.max()} of {count} names")
        if not len(regions):
            regions = replace(regions, features=np.zeros((0, self.feature_size), np.float32))
        size = regions.features.shape[1]
        if size != self.feature_size:
            raise RowError("feature-size", f"{size} numbers a region, not {self.feature_size}")
        if (ids == UNKNOWN).any():
            if len(self.source.objects) >= MAX_NAMES:
                raise RowError("bad-id", "no number is left for regions of unknown class")
            self.unknown = True
            known = np.where(ids == UNKNOWN, len(self.source.objects), ids).astype(np.int16)
            regions = replace(regions, object_ids=known)
        return regions

    def _image_of(self, image_id: str) -> bytes | None:
        """Return the bytes of an image from the folder of images, None where none is given."""
        folder = self.recipe.images
        if folder is None:
            return None
        if not image_id or ".." in Path(image_id).parts or Path(image_id).is_absolute():
            raise RowError("image-missing", f"{image_id!r} is no name of a file in {folder}")
        for suffix in _IMAGE_SUFFIXES:
            place = storage.join(folder, image_id + suffix)
            if storage.exists(place) and (suffix or Path(image_id).suffix):
                return storage.read_bytes(place)
        raise RowError("image-missing", f"no {image_id} with any known ending in {folder}")

    def _meta(self, row: Row, image: ImportedImage, regions: Regions, sha256: str) -> SampleMeta:
        """Return the content of a sample's `KEY.json`."""
        captions = dict.fromkeys((*image.captions, *self._captions.of(row.image_id)))
        return SampleMeta(
            captions=[Caption(text=text, source="caption", score=1.0) for text in captions],
            tags=list(image.tags) if image.tags is not None else self._tags(regions),
            url=row.image_id,
            page="",
            width=image.width,
            height=image.height,
            sha256=sha256,
            phash="",
            regions_text=[
                RegionText(box=list(box), phrase=phrase) for box, phrase in image.phrases
            ],
        )

    def _tags(self, regions: Regions) -> list[str]:
        shown = {"object_ids": regions.object_ids, "object_conf": regions.object_conf}
        names = tags_of(shown, [*self.source.objects, ""])
        return [name for name in names if name]

    def _keep(self, row: Row, meta: SampleMeta, key: str, notes: dict[str, Any]) -> dict[str, Any]:
        best = meta.captions[0].model_dump() if meta.captions else {}
        return decision(
            row.image_id,
            "",
            row.number,
            key=key,
            width=meta.width,
            height=meta.height,
            sha256=meta.sha256,
            scores=json.dumps(notes, sort_keys=True),
            **best,
        )

    def _drop(self, row: Row, error: RowError) -> dict[str, Any]:
        """Return the decision that drops a row; it names the file, the row and what is wrong."""
        file = Path(self.source.place).name
        detail = error.detail.encode(errors="replace").decode()
        notes = {"file": file, "row": row.number + 1, "detail": detail}
        return decision(
            row.image_id,
            "",
            row.number,
            step="collect",
            reason=error.reason,
            scores=json.dumps(notes, sort_keys=True, ensure_ascii=False),
        )


def _printable(row: Row) -> Row:
    """Return a row whose id can be written as UTF-8."""
    return replace(row, image_id=row.image_id.encode(errors="replace").decode())


def _feature_size(source: Source) -> int:
    """Return the size of the first features in a source, which all others must have."""
    if source.objects:
        for row in source.rows(0):
            if isinstance(row.content, ImportedImage) and len(row.content.regions):
                return int(row.content.regions.features.shape[1])
    return _FEATURE_SIZE


def _sized(image: ImportedImage, data: bytes | None) -> ImportedImage:
    """Return an image whose size is known and agrees with its bytes, where there are any."""
    if data is not None:
        try:
            header = read_header(data)
        except ImageError as error:
            raise RowError(error.reason, error.detail) from error
        told = (image.width, image.height)
        if 0 in told:
            return replace(image, width=header.width, height=header.height)
        # A camera's turned picture is stored lying down: the features may be of either form.
        if told not in ((header.width, header.height), (header.height, header.width)):
            raise RowError(
                "size-disagrees",
                f"{told[0]}x{told[1]} in the row, the image is {header.width}x{header.height}",
            )
        return image
    if 0 in (image.width, image.height):
        raise RowError("size-missing", "the row tells no size; give --images, the folder of images")
    return image


def _identity(place: str, recipe: ImportRecipe) -> dict[str, Any]:
    """Return what tells the sources of this import from others: a size, and hashes of lists."""
    small = {
        name: getattr(recipe, name)
        for name in ("captions", "objects", "attributes")
        if getattr(recipe, name) is not None
    }
    known: dict[str, Any] = {name: storage.sha256_of(uri) for name, uri in small.items()}
    if storage.is_remote(place) or Path(place).is_file():
        known["bytes"] = storage.size(place)
    return known
