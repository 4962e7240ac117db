"""The corruption of regions: of those chosen some become zero, some another's feature, some stay.

ImageBERT and ViLBERT: 90% zero, 10% stay; LXMERT: 80% zero, 10% another region's, 10% stay.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]


def mask_regions(
    features: Features,
    chance: np.random.Generator,
    probability: float,
    zero_share: float,
    random_share: float = 0.0,
    random_feature: Callable[[float], Features] | None = None,
) -> tuple[Features, npt.NDArray[np.intp]]:
    """Return a corrupted copy of `features` [regions, F], and the places chosen, in rising order.

    `random_feature` gives the feature [F] for a draw in [0, 1), a chosen region of `random_share`
    takes it. The count of draws depends on the count of regions alone. Raises ValueError where a
    random share has no features to draw.
    """
    if random_share > 0 and random_feature is None:
        raise ValueError("a random share of the regions needs random_feature")
    chosen, action, source = chance.random((3, len(features)))
    (places,) = np.nonzero(chosen < probability)
    corrupted = features.copy()
    action = action[places]
    corrupted[places[action < zero_share]] = 0.0
    if random_feature is not None:
        for place in places[(action >= zero_share) & (action < zero_share + random_share)]:
            corrupted[place] = random_feature(float(source[place]))
    return corrupted, places
