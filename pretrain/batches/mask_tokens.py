"""BERT's corruption of tokens: of those chosen 80% become [MASK], 10% any word, 10% stay.

Tokens are chosen one by one (Devlin et al., 2019) or by whole words: all pieces of a word, each
with an action of its own.
"""

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from pretrain.batches.vocabulary import CONTINUED

MASK_SHARE = 0.8
RANDOM_SHARE = 0.1

Ids = npt.NDArray[np.int64]


def mask_tokens(
    ids: Ids,
    chance: np.random.Generator,
    probability: float,
    mask: int,
    words: int,
    beginnings: npt.NDArray[np.bool_] | None = None,
) -> tuple[Ids, npt.NDArray[np.intp]]:
    """Return `ids` [tokens] corrupted, and which places were chosen, in rising order.

    `ids` holds no special tokens. A random word comes from the whole vocabulary of `words`, the
    special ones included, as published. With `beginnings` [words], which says of each entry of the
    vocabulary whether a word begins with it, words are chosen whole. The count of draws depends on
    the count of tokens alone.
    """
    chosen, action = chance.random((2, len(ids)))
    random_words = chance.integers(words, size=len(ids))
    if beginnings is not None:
        chosen = chosen[_first_pieces(ids, beginnings)]
    (places,) = np.nonzero(chosen < probability)
    corrupted = ids.copy()
    action = action[places]
    corrupted[places[action < MASK_SHARE]] = mask
    swapped = places[(action >= MASK_SHARE) & (action < MASK_SHARE + RANDOM_SHARE)]
    corrupted[swapped] = random_words[swapped]
    return corrupted, places


def _first_pieces(ids: Ids, beginnings: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return for each token the place of its word's first piece [tokens]."""
    places = np.where(beginnings[ids], np.arange(len(ids)), 0)
    return np.maximum.accumulate(places)


def word_beginnings(tokenizer: PreTrainedTokenizerBase) -> npt.NDArray[np.bool_]:
    """Return of each entry of the vocabulary whether it begins a word [words]."""
    entries = tokenizer.get_vocab()
    found = np.ones(max(entries.values()) + 1, dtype=np.bool_)
    found[[number for piece, number in entries.items() if piece.startswith(CONTINUED)]] = False
    return found
