"""Captioning with Oscar: who may see whom, and which tokens of the caption are hidden.

The sequence has fixed places: caption 0-39, then tags up to the text's length, then regions. The
network learns to write from left to right because a caption token sees those before it alone.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]

MOST_MASKED = 3
MASK_SHARE = 0.8
# Of what does not become [MASK], half becomes any word.
RANDOM_REST = 0.5


def captioning_mask(
    caption: int,
    tags: int,
    regions: int,
    caption_places: int = 40,
    text_places: int = 70,
    region_places: int = 50,
) -> npt.NDArray[np.int64]:
    """Return which position (row) sees which (column): int64 [text + regions, text + regions].

    caption, tags, regions: how many of their places are filled, [CLS] and [SEP]s counted; caption
    places come first in the text. A caption token sees itself, the caption before it, all tags and
    all regions; tags and regions see each other and themselves, never the caption; padding neither
    sees nor is seen. (The released code's comment says that captions do not see regions; it sets
    the ones nevertheless.)
    """
    total = text_places + region_places
    mask = np.zeros((total, total), dtype=np.int64)
    mask[:caption, :caption] = np.tri(caption, dtype=np.int64)
    image = np.zeros(total, dtype=np.bool_)
    image[caption_places : caption_places + tags] = True
    image[text_places : text_places + regions] = True
    mask[:caption, image] = 1
    mask[np.ix_(image, image)] = 1
    return mask


def mask_caption(
    ids: Ids,
    chance: np.random.Generator,
    mask: int,
    words: int,
    probability: float = 0.15,
    random_words: Literal["as_published", "sound"] = "as_published",
    unknown: int = 100,
) -> tuple[Ids, npt.NDArray[np.intp], Ids]:
    """Return the caption corrupted, which places are predicted, and what stood there.

    ids [caption]: [CLS], words and [SEP]; [SEP] may be chosen, so that the network learns where to
    stop, [CLS] not. round(0.15 * length) places are chosen, one at least and three at most. The
    labels [3] are padded with 0. `as_published` draws a random word from one number too many, and
    the surplus number becomes `unknown`; `sound` draws among the `words` alone.
    """
    count = min(max(round(probability * len(ids)), 1), MOST_MASKED, len(ids) - 1)
    places = np.sort(1 + chance.permutation(len(ids) - 1)[:count])
    first, second = chance.random((2, count))
    surplus = random_words == "as_published"
    drawn = chance.integers(words + surplus, size=count)
    drawn[drawn == words] = unknown
    corrupted = ids.copy()
    hidden = first <= MASK_SHARE
    swapped = ~hidden & (second <= RANDOM_REST)
    corrupted[places[hidden]] = mask
    corrupted[places[swapped]] = drawn[swapped]
    labels = np.zeros(MOST_MASKED, dtype=np.int64)
    labels[:count] = ids[places]
    return corrupted, places, labels
