"""Which corruption of tokens a configuration asks for: by token, by whole word, or by span."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from pretrain.batches.mask_spans import SpanRule, mask_spans
from pretrain.batches.mask_tokens import Ids, mask_tokens, word_beginnings
from pretrain.batches.tokenise import TextEncoder

# Those of X-VLM's released code; its share of tokens and their limit are the configuration's.
SPAN_PROBABILITY, SPAN_SIZE = 0.2, 3

Masker = Callable[[Ids, np.random.Generator], tuple[Ids, npt.NDArray[np.intp]]]
"""Takes ids [tokens] without special tokens; returns them corrupted, and the chosen places."""


def masker(
    tokenizer: PreTrainedTokenizerBase, unit: str, probability: float, longest: int
) -> Masker:
    """Return the corruption of tokens by `unit`: token, whole-word or span.

    longest: tokens of the longest text. With a probability of 0 nothing is masked.
    """
    encoder = TextEncoder(tokenizer)
    mask, words = encoder.special.mask, encoder.words
    beginnings = None if unit == "token" else word_beginnings(tokenizer)
    if unit == "span" and beginnings is not None and probability > 0:
        rule = SpanRule(probability, longest, SPAN_PROBABILITY, SPAN_SIZE)
        return partial(_spans, continued=~beginnings, rule=rule, mask=mask, words=words)
    return partial(
        mask_tokens, probability=probability, mask=mask, words=words, beginnings=beginnings
    )


def _spans(
    ids: Ids,
    chance: np.random.Generator,
    continued: npt.NDArray[np.bool_],
    rule: SpanRule,
    mask: int,
    words: int,
) -> tuple[Ids, npt.NDArray[np.intp]]:
    return mask_spans(ids, continued[ids], chance, rule, mask, words)
