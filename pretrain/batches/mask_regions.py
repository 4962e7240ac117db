"""The corruption of regions: of those chosen some become zero, some another's feature, some stay.

ImageBERT and ViLBERT: 90% zero, 10% stay; LXMERT: 80% zero, 10% another region's, 10% stay.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Masks:
    """What is to become of the regions of one image, all in rising order.

    places: those chosen; zeroed: of them those that become zero; replaced: those that take the
    feature of another region, with a draw in [0, 1) for each that says which.
    """

    places: Places
    zeroed: Places
    replaced: Places
    draws: npt.NDArray[np.float64]


def draw_masks(
    count: int,
    chance: np.random.Generator,
    probability: float,
    zero_share: float,
    random_share: float = 0.0,
) -> Masks:
    """Choose among `count` regions; the count of draws depends on nothing else."""
    chosen, action, source = chance.random((3, count))
    (places,) = np.nonzero(chosen < probability)
    action = action[places]
    replaced = places[(action >= zero_share) & (action < zero_share + random_share)]
    return Masks(places, places[action < zero_share], replaced, source[replaced])


def mask_regions(
    features: Features,
    chance: np.random.Generator,
    probability: float,
    zero_share: float,
    random_share: float = 0.0,
    random_feature: Callable[[float], Features] | None = None,
) -> tuple[Features, Places]:
    """Return a corrupted copy of `features` [regions, F], and the places chosen, in rising order.

    The plain form of what `StoredRegions` does in place. `random_feature` gives the feature [F] for
    a draw in [0, 1). Raises ValueError where a random share has no features to draw.
    """
    if random_share > 0 and random_feature is None:
        raise ValueError("a random share of the regions needs random_feature")
    masks = draw_masks(len(features), chance, probability, zero_share, random_share)
    corrupted = features.copy()
    corrupted[masks.zeroed] = 0.0
    if random_feature is not None:
        for place, draw in zip(masks.replaced, masks.draws, strict=True):
            corrupted[place] = random_feature(float(draw))
    return corrupted, masks.places
