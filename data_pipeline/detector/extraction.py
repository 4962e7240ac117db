"""Regions for images that are there already: a detector run over a corpus or a folder, anew.

A unit is one shard. While the detector works on one batch, threads decode the next and the results
of the last are packed and written; what is in memory is a few batches, whatever the size of the
corpus. An image that cannot be used becomes a decision with a reason; the run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from data_pipeline.corpus.manifest import DetectorRecord
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.corpus.schema import IMAGE_EXTENSIONS, SampleMeta
from data_pipeline.corpus.writer import PackedSample
from data_pipeline.derived import ShardUnits, decision
from data_pipeline.detector.buckets import Padding
from data_pipeline.detector.extraction_recipe import ExtractRecipe
from data_pipeline.detector.extraction_source import Candidate, ImageSource
from data_pipeline.detector.extraction_stream import Decoded, decoded, in_background, in_order
from data_pipeline.detector.given_boxes import GivenBoxes
from data_pipeline.detector.protocol import RegionDetector
from data_pipeline.detector.storage_report import StorageReport
from data_pipeline.images import ImageError, read_header
from data_pipeline.steps.detect import tags_of
from data_pipeline.units import Entry
from trawl.errors import RequestError

PHASE = "extract"
_IMAGES_MEASURED = 100
"""Images of a shard whose forms of storage are compared; it takes longer than packing them."""
_DECODERS, _GPU_DECODERS = 2, 8
_GPU_LANES = 2
"""Batches on a GPU at once, each in a thread with a stream: one computes, for one the host works.

Only in bfloat16: how exact float32 is, is one setting for all threads.
"""
_MOST_PASSED = 4
"""Batches' worth of items, nearly all of them bad, that go on without waiting for a full batch."""
_BATCHES_WAITING = 2
"""Most batches with their regions that wait to be written."""


class Extraction:
    """One extraction: its source, its detector and its settings, ready to do any unit."""

    def __init__(
        self, source: ImageSource, detector: RegionDetector, recipe: ExtractRecipe
    ) -> None:
        self.source, self.detector, self.recipe = source, detector, recipe
        self.given = None if recipe.boxes_from is None else GivenBoxes(recipe.boxes_from, detector)

    def record(self) -> DetectorRecord:
        """Return what the manifest says of the detector."""
        if self.given is not None:
            objects, attributes = self.given.objects, self.given.attributes
        else:
            objects, attributes = self.detector.objects, self.detector.attributes
        return DetectorRecord(
            name=self.detector.name,
            weights_sha256=self.detector.weights_sha256,
            selection=self.recipe.rule(),
            features=self.recipe.features,
            feature_size=self.detector.feature_size,
            objects=list(objects),
            attributes=list(attributes),
        )

    def inputs(self, unit: int) -> dict[str, Any]:
        """Return what the ledger keeps of a unit: images, weights and boxes."""
        known = {**self.source.inputs(unit), "weights": self.detector.weights_sha256}
        return known if self.given is None else {**known, "boxes": self.given.bytes}

    def do(self, number: int, units: ShardUnits) -> Entry:
        """Detect one unit and commit its shard, decisions and measurements."""
        work, before = _UnitWork(self), self._padding()
        return units.commit(
            units.unit(number, self.inputs(number)),
            work.samples(self.source.candidates(number)),
            lambda: work.decisions,
            lambda: {
                "storage": work.storage.to_json(),
                "differences": sorted(work.differences),
                "padding": [now - then for now, then in zip(self._padding(), before, strict=True)],
                "failed": work.failed,
            },
        )

    def _padding(self) -> tuple[int, int]:
        """Return the pixels so far, own and computed, of a detector that counts them."""
        counted = getattr(self.detector, "padding", None)
        return counted.counts() if isinstance(counted, Padding) else (0, 0)


class _UnitWork:
    """What gathers while one unit is done."""

    def __init__(self, extraction: Extraction) -> None:
        self._of = extraction
        self.decisions: list[dict[str, Any]] = []
        self.differences: list[tuple[str, float, int]] = []
        self.storage = StorageReport()
        self.failed = ""

    def samples(self, candidates: Iterable[Candidate]) -> Iterator[PackedSample]:
        """Yield the packed samples of those candidates that can be used, as they are found."""
        for item, regions in in_background(self._detected(candidates), _BATCHES_WAITING):
            if isinstance(regions, ImageError):
                self._drop(item.candidate, regions)
            else:
                yield self._sample(item, regions)

    def _detected(
        self, candidates: Iterable[Candidate]
    ) -> Iterator[list[tuple[Decoded, Regions | ImageError]]]:
        """Yield the candidates in their order with regions or a fault, a batch of images a time."""
        recipe = self._of.recipe
        quick = recipe.device != "cpu" and recipe.number == "bfloat16"
        lanes = _GPU_LANES if quick else 1
        yield from in_order(self._batched(candidates), self._answers, lanes, lanes)

    def _batched(self, candidates: Iterable[Candidate]) -> Iterator[list[Decoded]]:
        """Yield the candidates, decoded, in groups with a batch of usable images each."""
        size = self._of.recipe.batch
        passed: list[Decoded] = []
        images = 0
        threads = _GPU_DECODERS if self._of.recipe.device != "cpu" else _DECODERS
        for item in decoded(candidates, self._of.recipe.max_pixels, size, threads):
            passed.append(item)
            images += item.error is None
            if images == size or len(passed) >= _MOST_PASSED * size:
                yield passed
                passed, images = [], 0
        yield passed

    def _answers(self, items: list[Decoded]) -> list[tuple[Decoded, Regions | ImageError]]:
        """Return each item, its pixels let go, with its regions or the reason why it has none."""
        found = iter(self._regions([item for item in items if item.error is None]))
        return [
            (replace(item, pixels=None), next(found) if item.error is None else item.error)
            for item in items
        ]

    def _regions(self, batch: list[Decoded]) -> list[Regions | ImageError]:
        """Return the regions of a batch; where it fails as a whole, those of each image alone."""
        if not batch:
            return []
        try:
            return list(self._found(batch))
        except RequestError:
            raise
        except Exception as error:  # whatever one image makes the detector raise
            if len(batch) > 1:
                return [self._regions([item])[0] for item in batch]
            if isinstance(error, ImageError):
                return [error]
            first = (str(error).splitlines() or [""])[0]
            self.failed = self.failed or f"{type(error).__name__}: {first}"
            return [ImageError("detector-failed", f"{type(error).__name__}: {first}"[:300])]

    def _found(self, batch: list[Decoded]) -> list[Regions]:
        """Run the detector: at its own boxes, or at those of the file that was given."""
        images = [item.pixels for item in batch if item.pixels is not None]
        if self._of.given is None:
            return self._of.detector.detect(images, selection=self._of.recipe.rule())
        names = [item.candidate.url for item in batch]
        answers = self._of.given.regions(names, images)
        self.differences += [
            (name, answer.difference, len(answer.regions))
            for name, answer in zip(names, answers, strict=True)
            if answer.difference is not None
        ]
        return [answer.regions for answer in answers]

    def _sample(self, item: Decoded, regions: Regions) -> PackedSample:
        """Return the sample of an image and enter the decision that keeps it."""
        candidate = item.candidate
        assert isinstance(candidate.data, bytes)
        if self.storage.images < _IMAGES_MEASURED:
            self.storage.add(regions)
        stored = regions.stored_as(self._of.recipe.features)
        record = self._of.record()
        shown = {"object_ids": stored.object_ids, "object_conf": stored.object_conf}
        meta = self._meta(item, tags_of(shown, record.objects))
        self.decisions.append(
            decision(
                candidate.url,
                candidate.page,
                candidate.position,
                key=candidate.key,
                width=meta.width,
                height=meta.height,
                sha256=candidate.sha256,
                scores=json.dumps(item.notes, sort_keys=True),
            )
        )
        extension = IMAGE_EXTENSIONS[read_header(candidate.data).kind]
        blob = encode(stored, record.stamp())
        members = {"json": meta.to_bytes(), "regions": blob, extension: candidate.data}
        return PackedSample(candidate.key, members)

    def _meta(self, item: Decoded, tags: list[str]) -> SampleMeta:
        """Return what the image's corpus said, with the new tags; else what there is to say."""
        candidate, (height, width) = item.candidate, item.size
        seen = {"tags": tags, "width": width, "height": height}
        if candidate.meta is not None:
            return SampleMeta.model_validate({**candidate.meta, **seen})
        empty = {"captions": [], "page": "", "phash": ""}
        return SampleMeta.model_validate(
            {**empty, **seen, "url": candidate.url, "sha256": candidate.sha256}
        )

    def _drop(self, candidate: Candidate, error: ImageError) -> None:
        self.decisions.append(
            decision(
                candidate.url,
                candidate.page,
                candidate.position,
                key=candidate.key,
                sha256=candidate.sha256,
                step="detect",
                reason=error.reason,
                scores=json.dumps({"detail": error.detail}, ensure_ascii=False),
            )
        )
