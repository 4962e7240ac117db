"""BERT's corruption of tokens: of those chosen 80% become [MASK], 10% any word, 10% stay."""

import numpy as np
import numpy.typing as npt

MASK_SHARE = 0.8
RANDOM_SHARE = 0.1

Ids = npt.NDArray[np.int64]


def mask_tokens(
    ids: Ids, chance: np.random.Generator, probability: float, mask: int, words: int
) -> tuple[Ids, npt.NDArray[np.intp]]:
    """Return `ids` [tokens] corrupted, and which places were chosen, in rising order.

    `ids` holds no special tokens. A random word comes from the whole vocabulary of `words`, the
    special ones included, as published. The count of draws depends on the count of tokens alone.
    """
    chosen, action = chance.random((2, len(ids)))
    random_words = chance.integers(words, size=len(ids))
    (places,) = np.nonzero(chosen < probability)
    corrupted = ids.copy()
    action = action[places]
    corrupted[places[action < MASK_SHARE]] = mask
    swapped = places[(action >= MASK_SHARE) & (action < MASK_SHARE + RANDOM_SHARE)]
    corrupted[swapped] = random_words[swapped]
    return corrupted, places
