"""Image-text matching: do caption and image belong together?

The labels carry the polarity, which differs between families (a match is 1 in Oscar's retrieval,
ImageBERT, LXMERT and X-VLM, 0 in ViLBERT); nothing here depends on it but `hard_loss`.
"""

import torch
from torch import Tensor
from torch.nn import functional


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of `logits` against labels [batch], 0 for an empty batch.

    logits [batch, 2] take a softmax; logits [batch, 1] (ImageBERT) are log-odds of label 1.
    """
    logits = logits.float()
    if logits.shape[0] == 0:
        return logits.sum()
    if logits.shape[-1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    return functional.cross_entropy(logits, labels)


def hard_loss(logits: Tensor) -> Tensor:
    """Return the mean cross-entropy over a batch of pairs and its hard negatives.

    logits [3 * batch, 2]: first the pairs, which are class 1; then each text with a wrong image and
    each image with a wrong text, class 0 (X-VLM, Zeng et al., ICML 2022, section 3.2).
    """
    labels = torch.zeros(logits.shape[0], dtype=torch.long, device=logits.device)
    labels[: logits.shape[0] // 3] = 1
    return loss(logits, labels)


def log_odds(logits: Tensor, match_class: int) -> Tensor:
    """Return the log-odds [batch] of a match from logits [batch, 2] of which one class means it."""
    match = logits.float()
    return match[:, match_class] - match[:, 1 - match_class]
