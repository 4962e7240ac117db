"""WordPiece tokenisers: learned from texts, loaded from a folder, and applied."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import BertTokenizer, PreTrainedTokenizerBase

from pretrain.batches.remembered import Remembered
from pretrain.batches.vocabulary import count_words, learn_pieces
from trawl.errors import RequestError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CACHED_TEXTS = 1 << 16

Ids = npt.NDArray[np.int64]


def train_tokenizer(texts: Iterable[str], size: int) -> BertTokenizer:
    """Learn a lower-case WordPiece vocabulary of at most `size` entries from `texts`.

    The special tokens get ids 0 to 4: [PAD] [UNK] [CLS] [SEP] [MASK]. What stands in the texts but
    once is not learned. The same texts give the same vocabulary.
    """
    pieces = learn_pieces(count_words(texts), size - len(SPECIAL_TOKENS))
    return BertTokenizer(vocab={piece: n for n, piece in enumerate([*SPECIAL_TOKENS, *pieces])})


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved in `folder`: tokenizer.json, or BERT's plain vocab.txt.

    Raises RequestError if there is none, or if it lacks a special token that the layout needs.
    """
    place = Path(folder)
    if (place / "tokenizer.json").is_file():
        tokenizer = BertTokenizer.from_pretrained(place, local_files_only=True)
    elif (place / "vocab.txt").is_file():
        tokenizer = BertTokenizer(vocab=str(place / "vocab.txt"))
    else:
        raise RequestError(f"{place}: neither tokenizer.json nor vocab.txt; name a saved tokenizer")
    # Without those that transformers adds by itself where they are missing.
    known = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    for token in SPECIAL_TOKENS:
        if token not in known:
            raise RequestError(f"{place}: the vocabulary has no {token}; take a BERT vocabulary")
    return tokenizer


@dataclass(frozen=True)
class SpecialIds:
    """The ids of the special tokens."""

    pad: int
    start: int
    separator: int
    mask: int


class TextEncoder:
    """Turns texts into ids, without special tokens; remembers texts that come again."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend: Tokenizer = tokenizer.backend_tokenizer
        self.words = backend.get_vocab_size()
        self.special = SpecialIds(
            *(self._special_id(backend, token) for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
        )
        self._backend = backend
        self._remembered = Remembered(self._encode, _CACHED_TEXTS)

    @staticmethod
    def _special_id(backend: Tokenizer, token: str) -> int:
        number = backend.token_to_id(token)
        if number is None:
            raise RequestError(f"the tokenizer has no {token}; take a BERT vocabulary")
        return int(number)

    def _encode(self, text: str) -> Ids:
        encoded = self._backend.encode(text, add_special_tokens=False)
        ids = np.array(encoded.ids, dtype=np.int64)
        ids.flags.writeable = False
        return ids

    def encode(self, text: str) -> Ids:
        """Return the ids of `text`, read-only."""
        ids: Ids = self._remembered(text)
        return ids
