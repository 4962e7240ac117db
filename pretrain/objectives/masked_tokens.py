"""Masked tokens: cross-entropy of the words that stood in masked places (Devlin et al., 2019)."""

from torch import Tensor
from torch.nn import functional

IGNORED = -1


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the masked tokens, 0 where there are none.

    logits [masked, vocabulary] or [batch, text, vocabulary]; labels [masked] or [batch, text], with
    -1 where nothing is to be predicted.
    """
    total = functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels != IGNORED).sum().clamp(min=1)


def mean(losses: Tensor, labels: Tensor) -> Tensor:
    """Return the same from the losses of single tokens, 0 where nothing is predicted."""
    return losses.sum() / (labels != IGNORED).sum().clamp(min=1)
