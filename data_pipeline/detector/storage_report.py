"""What storing features costs and keeps: bytes a region, and the cosine to what was computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_pipeline.corpus.regions import Regions, encode

FORMS = ("float16", "int8")
PLACE = ("report", "storage.json")


@dataclass
class Kept:
    """One form of storage over many regions: sum and least of the cosines, bytes of the blobs."""

    cosines: float = 0.0
    least: float = 1.0
    bytes: int = 0


@dataclass
class StorageReport:
    """The forms of storage, measured on the regions that were added.

    The bytes are those of whole blobs: boxes, ids, confidences and header with the features, but
    for the line that says what made them.
    """

    regions: int = 0
    images: int = 0
    forms: dict[str, Kept] = field(default_factory=lambda: {form: Kept() for form in FORMS})

    def add(self, regions: Regions) -> None:
        """Measure the regions of one image, whose features are float32."""
        self.images += 1
        self.regions += len(regions)
        for form, kept in self.forms.items():
            stored = regions.stored_as(form)
            kept.bytes += len(encode(stored))
            if len(regions):
                found = cosines(regions.float_features(), stored.float_features())
                kept.cosines += float(found.sum())
                kept.least = min(kept.least, float(found.min()))

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add the numbers of another report, in the form of `to_json`."""
        self.regions += int(other["regions"])
        self.images += int(other["images"])
        for form, kept in self.forms.items():
            told = other["forms"][form]
            kept.cosines += float(told["cosines"])
            kept.least = min(kept.least, float(told["least"]))
            kept.bytes += int(told["bytes"])

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        forms = {form: vars(kept) for form, kept in self.forms.items()}
        return {"regions": self.regions, "images": self.images, "forms": forms}

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Return form, mean and least cosine to float32, and bytes a region, as text."""
        count = max(self.regions, 1)
        return [
            (
                form,
                f"{kept.cosines / count:.8f}",
                f"{kept.least:.8f}",
                f"{kept.bytes / count:,.0f}",
            )
            for form, kept in self.forms.items()
        ]

    def lines(self) -> list[str]:
        """Return the report for people; nothing where there is no region."""
        if not self.regions:
            return []
        return [
            f"{form:8} cosine to float32 {mean} (least {least}), {size} bytes a region"
            for form, mean, least, size in self.rows()
        ]


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of `first` with that of `second`; two rows of zeros have 1."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    same = (one == other).all(axis=1)
    found = (one * other).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)
    return np.where(same, 1.0, np.minimum(found, 1.0))
