"""What the heads of regions shall say about the masked regions of a batch.

For single-stream models: Oscar with ImageBERT's objectives, and ImageBERT itself.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.regions import Regions
from pretrain.batches.mask_regions import draw_masks
from pretrain.batches.stored import StoredRegions
from trawl.errors import WorkError

ZERO_SHARE = 0.9
OBJECTIVES = frozenset({"moc", "moc-confidence", "moc-kl", "mrfr", "mrfr-smooth-l1"})
_OBJECTS = frozenset({"moc", "moc-confidence"})
_FEATURES = frozenset({"mrfr", "mrfr-smooth-l1"})

Array = npt.NDArray[Any]


class RegionTargets:
    """Masks the regions of a batch, row by row, and gathers the targets of `objectives`."""

    def __init__(self, objectives: Collection[str], probability: float, feature: int) -> None:
        self._objectives = frozenset(objectives) & OBJECTIVES
        self._probability = probability
        self._places: list[Array] = [np.zeros(0, dtype=np.int64)]
        self._labels: list[Array] = [np.zeros(0, dtype=np.int64)]
        self._confidences: list[Array] = [np.zeros(0, dtype=np.float32)]
        self._features: list[Array] = [np.zeros((0, feature), dtype=np.float32)]
        self._probabilities: list[Array] = []
        self._regions = 0

    @property
    def wanted(self) -> bool:
        """Whether an objective is about regions."""
        return bool(self._objectives)

    def mask(
        self,
        stored: StoredRegions,
        number: int,
        regions: Regions,
        chance: np.random.Generator,
        predicted: bool,
    ) -> None:
        """Mask the regions of row `number` of `stored`; remember what stood there.

        regions: those of the row as its sample has them, for their labels; predicted: whether the
        heads shall say what is masked (no target is kept otherwise).
        """
        own = stored.row(number)
        self._regions += own.stop - own.start
        masks = draw_masks(own.stop - own.start, chance, self._probability, ZERO_SHARE)
        if predicted:
            self._remember(stored, own.start, regions, masks.places)
        stored.features[own.start + masks.zeroed] = 0

    def _remember(
        self, stored: StoredRegions, start: int, regions: Regions, chosen: npt.NDArray[np.intp]
    ) -> None:
        """Keep the targets of the `chosen` of `regions`, whose row begins at place `start`."""
        self._places.append(start + chosen.astype(np.int64))
        self._labels.append(regions.object_ids[chosen].astype(np.int64))
        self._confidences.append(regions.object_conf[chosen].astype(np.float32))
        if self._objectives & _FEATURES:
            self._features.append(stored.values(start + chosen))
        if "moc-kl" in self._objectives:
            if regions.class_probs is None:
                raise WorkError("moc-kl: a sample has no class_probs, as others have")
            self._probabilities.append(regions.class_probs[chosen].astype(np.float32))

    def arrays(self, classes: int) -> dict[str, Array]:
        """Return predicted_regions [predicted] and, of the objectives, the targets.

        object_labels, object_weights and feature_weights [predicted], feature_targets [predicted,
        F], object_probabilities [predicted, classes]; region_normaliser [], the regions of the
        batch times the share that is masked.
        """
        found: dict[str, Array] = {"predicted_regions": np.concatenate(self._places)}
        if self._objectives & _OBJECTS:
            found["object_labels"] = np.concatenate(self._labels)
        if self._objectives & _FEATURES:
            found["feature_targets"] = np.concatenate(self._features)
        if "moc-confidence" in self._objectives:
            found["object_weights"] = np.concatenate(self._confidences)
        if "mrfr-smooth-l1" in self._objectives:
            found["feature_weights"] = np.ones(len(found["feature_targets"]), dtype=np.float32)
        if self._objectives & {"moc-confidence", "mrfr-smooth-l1"}:
            share = self._regions * self._probability
            found["region_normaliser"] = np.array(share, dtype=np.float32)
        if "moc-kl" in self._objectives:
            none = np.zeros((0, classes), dtype=np.float32)
            found["object_probabilities"] = np.concatenate([none, *self._probabilities])
        return found
