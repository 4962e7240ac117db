"""Features computed anew at the boxes of a TSV, and how far they are from those in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from data_pipeline.corpus.regions import Regions
from data_pipeline.detector.protocol import RegionDetector
from data_pipeline.exchange.label_index import LabelIndex
from data_pipeline.exchange.lines import Line
from data_pipeline.exchange.lxmert_tsv import LxmertTsv, read_line
from data_pipeline.exchange.rows import UNKNOWN, RowError
from data_pipeline.exchange.vocabulary import UNKNOWN_NAME
from data_pipeline.images import ImageError
from trawl import storage


@dataclass(frozen=True)
class Recomputed:
    """Regions with new features; difference is the mean of |new - TSV's|, None if incomparable."""

    regions: Regions
    difference: float | None


class GivenBoxes:
    """The boxes of LXMERT's or bottom-up attention's TSV, found by image id or file name."""

    def __init__(self, place: str, detector: RegionDetector) -> None:
        table = LxmertTsv(place)
        self.objects = [*table.objects, UNKNOWN_NAME]
        self.attributes = table.attributes
        self.bytes = storage.size(place)
        self._detector = detector
        self._rows = LabelIndex(place)

    def regions(self, names: Sequence[str], images: Sequence[np.ndarray]) -> list[Recomputed]:
        """Return the regions of each image at the boxes that the TSV has for its name.

        ImageError "no-boxes" or the fault of its row where there are none; callers ask again for
        each image alone.
        """
        told = [self._of(name, image) for name, image in zip(names, images, strict=True)]
        found = self._detector.features_at(images, [regions.boxes for regions in told])
        return [
            Recomputed(replace(regions, features=features), _difference(regions, features))
            for regions, features in zip(told, found, strict=True)
        ]

    def _of(self, name: str, image: np.ndarray) -> Regions:
        """Return the regions that the TSV has for an image."""
        stem = PurePosixPath(name).stem
        for image_id in (name, stem):
            content = self._rows.find(image_id)
            if content is not None:
                return self._parsed(image_id, content, image)
        raise ImageError("no-boxes", f"the TSV has neither {name} nor {stem}")

    def _parsed(self, image_id: str, content: bytes, image: np.ndarray) -> Regions:
        row = read_line(Line(0, 0, image_id.encode() + b"\t" + content))
        if isinstance(row.content, RowError):
            raise ImageError(row.content.reason, row.content.detail)
        size = (row.content.width, row.content.height)
        if size != (image.shape[1], image.shape[0]):
            shown = f"{image.shape[1]}x{image.shape[0]}"
            raise ImageError("size-disagrees", f"{size[0]}x{size[1]} in the TSV, it is {shown}")
        regions = row.content.regions
        ids, attributes = regions.object_ids, regions.attribute_ids
        if len(ids) and (
            int(ids.max()) >= len(self.objects) or int(attributes.max()) >= len(self.attributes)
        ):
            raise ImageError("bad-id", "beyond the list of names beside the TSV")
        known = np.where(ids == UNKNOWN, len(self.objects) - 1, ids).astype(np.int16)
        return replace(regions, object_ids=known, boxes=regions.boxes.copy())


def _difference(regions: Regions, features: np.ndarray) -> float | None:
    """Return the mean absolute difference to the TSV's features, None if sizes differ."""
    if regions.features.shape != features.shape or not features.size:
        return None
    return float(np.abs(features.astype(np.float64) - regions.features).mean())
