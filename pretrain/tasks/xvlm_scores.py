"""X-VLM's scores of many texts with many images: contrast of all, matching of the likely pairs.

As published (Zeng et al., ICML 2022, section 4.2): all are ranked by the cosine of their vectors,
and the best of each query are ranked again by the matching head.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.xvlm import XvlmBatches
from pretrain.models.xvlm import XvlmForPreTraining

RERANKED = 32
"""How many answers of each query the matching head sees; published: 128 of 1,000, 256 of 5,000."""
_AT_ONCE = 64
# Puts every pair that is not matched behind every pair that is; both kinds stay in their order.
_UNMATCHED = -1000.0

Scores = npt.NDArray[np.float32]


def scores_by_stages(
    model: XvlmForPreTraining,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    texts: Sequence[str],
    count: int,
) -> Scores:
    """Return scores [texts, images]: matched pairs first, by log-odds, the others by likeness."""
    batches = XvlmBatches([corpus], tokenizer, model.config, {}, 0, "retrieval")
    images = _images(model, batches, corpus, texts[0], count)
    words, mask = _texts(model, batches, corpus, texts)
    vectors, text_vectors = model.project(images, words)
    likeness = (text_vectors @ vectors.t() / model.temp).float()  # [texts, images]
    pairs = likely_pairs(likeness.cpu().numpy(), RERANKED)
    scores = likeness.cpu().numpy() + _UNMATCHED
    for start in range(0, len(pairs), _AT_ONCE):
        rows, columns = torch.from_numpy(pairs[start : start + _AT_ONCE].T).to(words.device)
        odds = model.match(words[rows], mask[rows], images[columns])
        scores[rows.cpu().numpy(), columns.cpu().numpy()] = odds.cpu().numpy()
    return cast(Scores, scores)


def likely_pairs(likeness: Scores, depth: int) -> npt.NDArray[np.int64]:
    """Return the pairs [pairs, 2] among the best `depth` of their text or of their image."""
    chosen = np.zeros(likeness.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-likeness, axis=1)[:, :depth], True, axis=1)
    np.put_along_axis(chosen, np.argsort(-likeness, axis=0)[:depth], True, axis=0)
    return np.argwhere(chosen)


def _images(
    model: XvlmForPreTraining, batches: XvlmBatches, corpus: Corpus, text: str, count: int
) -> Tensor:
    """Return the states of the first `count` images: [images, 1 + patches, vision width]."""
    parts = []
    for start in range(0, count, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, count))
        batch = batches.pairs(corpus, numbers, [text] * len(numbers))
        parts.append(model.embed_images(batch["pixel_values"].to(model.device)).states)
    return torch.cat(parts)


def _texts(
    model: XvlmForPreTraining, batches: XvlmBatches, corpus: Corpus, texts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return the states of `texts` [texts, length, hidden] and their mask [texts, length]."""
    batch = batches.pairs(corpus, [0] * len(texts), texts)
    ids, mask = (batch[name].to(model.device) for name in ("input_ids", "attention_mask"))
    parts = [
        model.embed_texts(ids[start : start + _AT_ONCE], mask[start : start + _AT_ONCE])[-1]
        for start in range(0, len(texts), _AT_ONCE)
    ]
    return torch.cat(parts), mask
