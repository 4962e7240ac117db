"""The features of a batch's regions as the corpus stores them, until they are on the device.

float16 and int8 features cross to the device as they are, a half and a quarter of the bytes, and
become float32 there: `assembled`. Multiplied in float32 they are the numbers that the host would
have made (tests/pretrain/batches/test_stored.py).

Beside the features called NAME a batch may hold NAME.scales [batch, regions], what int8 features
are multiplied by; NAME.behind [batch, regions, numbers], appended to each vector; and NAME.before
[batch, 1, F], a vector in front of the regions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from data_pipeline.corpus.gather import RegionBlock, gather
from data_pipeline.corpus.index import ROW
from data_pipeline.corpus.reader import Corpus, Sample
from data_pipeline.corpus.regions import Regions
from pretrain.batches.geometry import locations
from pretrain.batches.row_places import RowPlaces
from pretrain.kernels.selection import chosen

Array = npt.NDArray[Any]

SCALES, BEHIND, BEFORE = ".scales", ".behind", ".before"
REGIONS = frozenset({"img_feats", "features", "visual_feats"})
"""What the families call the features that a kernel reads as they are stored."""


class FeatureForm:
    """How the features of a stage's corpora are stored: all alike, or mixed.

    name: float16, int8, or float32 where corpora differ, which are then converted on the host.
    """

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        detectors = [corpus.manifest.detector for corpus in corpora]
        forms = {detector.features for detector in detectors}
        self.name = forms.pop() if len(forms) == 1 else "float32"
        self.size = max(detector.feature_size for detector in detectors)


class StoredRegions:
    """The regions of a batch: features and scales as stored, and boxes, row after row.

    features [total, F], scales float16 [total] beside int8 features, boxes float32 [total, 4] in
    pixels; `places` says which are a row's. What a row does not fill is 0.
    """

    def __init__(self, form: FeatureForm, samples: Sequence[Sample], places: RowPlaces) -> None:
        self.places = places
        if form.name == "float32":
            self._convert(form, samples)
            return
        block = RegionBlock.empty((places.total,), form.size, form.name)
        shards, rows = [sample.shard for sample in samples], [sample.row for sample in samples]
        gather(shards, np.array(rows, dtype=ROW), block, places.starts, places.ends)
        self.features, self.scales = block.features, block.scales
        self.boxes: Array = block.boxes  # type: ignore[assignment]

    def _convert(self, form: FeatureForm, samples: Sequence[Sample]) -> None:
        """Read samples that are stored in different forms, as float32."""
        self.features = np.zeros((self.places.total, form.size), dtype=np.float32)
        self.boxes = np.zeros((self.places.total, 4), dtype=np.float32)
        self.scales = None
        for number, sample in enumerate(samples):
            own = self.row(number)
            regions = sample.regions.part(slice(own.stop - own.start))
            self.features[own], self.boxes[own] = regions.float_features(), regions.boxes

    def row(self, number: int) -> slice:
        """Return the places that row `number` fills."""
        start = int(self.places.starts[number])
        return slice(start, start + int(self.places.counts[number]))

    def values(self, places: Array | slice) -> npt.NDArray[np.float32]:
        """Return a copy of the features at `places` as float32 [places, F]."""
        # numpy converts float16 one number at a time, torch many.
        own = torch.from_numpy(self.features[places])
        values: npt.NDArray[np.float32] = own.to(torch.float32, copy=True).numpy()
        if self.scales is not None:
            values *= self.scales[places].astype(np.float32)[:, None]
        return values

    def put(self, places: slice, regions: Regions) -> None:
        """Write features and boxes of `regions` at `places`."""
        self.boxes[places] = regions.boxes
        self.put_features(places, regions)

    def put_features(self, places: slice, regions: Regions) -> None:
        """Write the features of `regions` at `places`; the boxes stay."""
        if self.features.dtype != regions.features.dtype:
            self.features[places] = regions.float_features()
            return
        self.features[places] = regions.features
        if self.scales is not None:
            self.scales[places] = regions.scale

    def locations(
        self, metas: Sequence[Mapping[str, Any]], numbers: Literal[4, 5, 6, 7]
    ) -> npt.NDArray[np.float32]:
        """Return where the regions lie in their images, of `metas`, shaped as the features are.

        See `geometry.locations`.
        """
        sizes = np.array([(meta["width"], meta["height"]) for meta in metas], dtype=np.float32)
        width, height = sizes.reshape(-1, 2)[self.places.row_of_each()].T
        return self.places.shaped(locations(self.boxes, width, height, numbers))

    def arrays(self, name: str) -> dict[str, Array]:
        """Return the features, and their scales, as the entries of a batch called `name`."""
        found = {name: self.places.shaped(self.features)}
        if self.scales is not None:
            found[name + SCALES] = self.places.shaped(self.scales)
        return found


@dataclass(frozen=True)
class StoredFeatures:
    """The features of a batch's regions as they are stored, beside what belongs to them.

    values [batch, regions, F], int8, float16 or float32; scales, behind, before: see above.
    """

    values: torch.Tensor
    scales: torch.Tensor | None = None
    behind: torch.Tensor | None = None
    before: torch.Tensor | None = None

    @classmethod
    def of(cls, batch: Mapping[str, torch.Tensor], name: str) -> "StoredFeatures":
        """Return the features that `batch` calls `name`."""
        return cls(batch[name], *(batch.get(name + part) for part in (SCALES, BEHIND, BEFORE)))

    @property
    def shape(self) -> torch.Size:
        """The shape of the assembled features."""
        rows, regions, size = self.values.shape
        more = 0 if self.before is None else self.before.shape[1]
        wider = 0 if self.behind is None else self.behind.shape[2]
        return torch.Size((rows, regions + more, size + wider))

    def assembled(self) -> torch.Tensor:
        """Return float32 [batch, regions, F], the companions gone into them."""
        value = self.values
        if value.dtype in (torch.float16, torch.int8):
            value = value.float()
            if self.scales is not None:
                value *= self.scales.float()[..., None]
        if self.behind is not None:
            value = torch.cat([value, self.behind], dim=-1)
        if self.before is not None:
            value = torch.cat([self.before, value], dim=-2)
        return value


def assembled(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return `batch` as the models read it: each NAME float32, its companions gone into it."""
    names = (name for name in batch if "." not in name)
    return {name: StoredFeatures.of(batch, name).assembled() for name in names}


def placed(batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, Any]:
    """Return `batch` on `device` as the models read it.

    Where a kernel embeds regions, their features stay as they are stored: `StoredFeatures`.
    """
    there = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    if chosen("region_embedding", device, torch.float32) == "plain":
        return assembled(there)
    whole = {name: value for name, value in there.items() if name.split(".")[0] not in REGIONS}
    stored = {name: StoredFeatures.of(there, name) for name in REGIONS & there.keys()}
    return {**assembled(whole), **stored}


def tensors(batch: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Return the arrays of `batch` as tensors that share their memory."""
    return {name: torch.from_numpy(array) for name, array in batch.items()}
