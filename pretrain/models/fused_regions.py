"""The regions of a batch on their way through the kernels of region embedding.

What a family's layers are is said by the family, as `Layers`; here features are taken as they are
stored, and rows put into the packed stream. Where no kernel runs, the families' own code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pretrain.batches.stored import StoredFeatures
from pretrain.kernels.counter_dropout import Places, site_of
from pretrain.kernels.region_embedding import Dropout, Layers, embedded_rows, projected_features
from pretrain.kernels.selection import chosen
from pretrain.models.packing import Packing

Features = Tensor | StoredFeatures
"""What a model reads of regions: vectors, or what becomes those."""


def by_kernel(features: Features, weight: Tensor) -> bool:
    """Return whether a kernel embeds `features` by a projection of this `weight`."""
    unable: Mapping[str, str] = {}
    if isinstance(features, Tensor) and features.requires_grad:
        unable = {"triton": "triton computes no gradient of the features"}
    return chosen("region_embedding", weight.device, weight.dtype, unable) == "triton"


def assembled(features: Features) -> Tensor:
    """Return the vectors, whatever form they came in."""
    return features if isinstance(features, Tensor) else features.assembled()


@dataclass(frozen=True)
class FusedRegions:
    """Regions that are not embedded yet: features, boxes, layers, and whose they are.

    boxes [batch, regions, numbers]; nothing: the last numbers of each feature, or what stands
    behind stored ones. places: of the regions, where dropout is a function of those.
    """

    features: Features
    boxes: Tensor | None
    layers: Layers
    dropout: nn.Dropout
    places: Places | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of the batch, and regions of a row."""
        return self.features.shape[0], self.features.shape[1]

    def rows(self) -> Tensor:
        """Return the embedded regions [batch, regions, width]."""
        return self._stream(None, None).unflatten(0, self.shape)

    def streamed(self, packing: Packing, text: Tensor | None) -> Tensor:
        """Return the packed stream [1, total, width] of embedded text and these regions.

        text [1, texts, width]; nothing: all that is packed are these.
        """
        return self._stream(None if text is None else text[0], packing.back)[None]

    def _stream(self, text: Tensor | None, places: Tensor | None) -> Tensor:
        """Return [texts + regions, width] with each row at its place."""
        projected, boxes = self._projected()
        dropout = self._dropout()
        active = self.dropout.training and self.dropout.p > 0
        if dropout is None and active:  # masks are the generator's: torch draws them
            rows = self.dropout(embedded_rows(projected, boxes, self.layers, "triton"))
            joined = rows if text is None else torch.cat([text, rows])
            return (
                joined if places is None else torch.empty_like(joined).index_copy(0, places, joined)
            )
        return embedded_rows(projected, boxes, self.layers, "triton", dropout, text, places)

    def _dropout(self) -> Dropout | None:
        if self.places is None or not self.dropout.training or self.dropout.p == 0:
            return None
        return Dropout(self.dropout.p, site_of(self.dropout), self.places)

    def _projected(self) -> tuple[Tensor, Tensor]:
        """Return projected features [regions, width] and boxes [regions, numbers]."""
        size, features = self.layers.weight.shape[1], self.features
        if isinstance(features, Tensor):
            features = StoredFeatures(features)
        values, scales, before = features.values, features.scales, features.before
        boxes = features.behind if self.boxes is None else self.boxes
        if boxes is None:
            values, boxes = values[..., :size], values[..., size:]
        projected = projected_features(
            values.flatten(0, 1), None if scales is None else scales.flatten(), self.layers.weight,
            "triton",
        ).unflatten(0, values.shape[:2])  # fmt: skip
        if before is not None:
            weight = self.layers.weight
            first = functional.linear(before.to(weight.dtype), weight)
            projected = torch.cat([first, projected], dim=1)
        return projected.flatten(0, 1), boxes.flatten(0, 1)


Embedded = Tensor | FusedRegions
"""Regions that are embedded, or will be on their way into the stream."""


def rows_of(regions: Embedded) -> Tensor:
    """Return embedded regions [batch, regions, width]."""
    return regions.rows() if isinstance(regions, FusedRegions) else regions


def streamed(packing: Packing, text: Tensor | None, regions: Embedded | None) -> Tensor:
    """Return the packed stream [1, total, width] of embedded text and regions, if any of either."""
    if isinstance(regions, FusedRegions):
        return regions.streamed(packing, text)
    parts = [part for part in (text, regions) if part is not None]
    return packing.streamed(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
