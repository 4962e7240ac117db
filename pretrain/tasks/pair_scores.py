"""Scores of captions with images by a pretrained model: the log-odds that they belong together."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.models.families import family_of

_PAIRS_AT_ONCE = 256

Scores = npt.NDArray[np.float32]


@torch.inference_mode()
def score_matrix(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    texts: Sequence[str],
    count: int,
) -> Scores:
    """Return the log-odds that each text belongs to each of the first `count` images.

    [texts, images], in evaluation mode, by the fastest way that the model's family has.
    """
    training = model.training
    nn.Module.eval(model)
    scores = _fastest(model)(model, tokenizer, corpus, texts, count)
    nn.Module.train(model, training)
    return scores


def _fastest(model: PreTrainedModel) -> Callable[..., Scores]:
    """Return the way of scoring that suits the family of `model`."""
    family = family_of(model.config).name
    if family == "oscar":
        from pretrain.tasks.oscar_scores import scores_by_parts

        return scores_by_parts
    if family == "xvlm":
        from pretrain.tasks.xvlm_scores import scores_by_stages

        return scores_by_stages
    return scores_by_pairs


@torch.inference_mode()
def scores_by_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    texts: Sequence[str],
    count: int,
) -> Scores:
    """Return the scores [texts, images] of whole forward passes, a batch of pairs after another."""
    family = family_of(model.config)
    batches = family.batches([corpus], tokenizer, model.config, {}, 0, "retrieval")
    pairs = [(text, image) for text in range(len(texts)) for image in range(count)]
    scores = np.zeros((len(texts), count), dtype=np.float32)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        batch = batches.pairs(corpus, [image for _, image in part], [texts[row] for row, _ in part])
        placed = {name: value.to(model.device) for name, value in batch.items()}
        odds: torch.Tensor = model.score(**placed)  # type: ignore[operator]  # [pairs]
        rows, columns = np.array(part).T
        scores[rows, columns] = odds.float().cpu().numpy()
    return scores
