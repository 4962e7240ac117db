"""What every region detector is to the rest of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from data_pipeline.corpus.regions import Regions


@runtime_checkable
class RegionDetector(Protocol):
    """Images in, regions out; an image's result does not depend on those beside it.

    Images are uint8 [height, width, 3] RGB of any sizes, boxes x1 y1 x2 y2 in an image's own
    pixels. `objects` and `attributes` leave out the background and "none"; regions hold indices
    into them. `weights_sha256` is the checksum of the weights file and goes into every corpus.
    """

    name: str
    weights_sha256: str
    objects: list[str]
    attributes: list[str]
    feature_size: int

    def detect(self, images: Sequence[np.ndarray], selection: str) -> list[Regions]:
        """Regions of every image, chosen by the named rule. RequestError for an unknown rule."""
        ...

    def features_at(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Features float32 [R, feature size] at given boxes float32 [R, 4] of every image."""
        ...
