"""Masked object classification: which object did the detector see in a region that is hidden?

Three forms: the detector's first choice (ImageBERT), the same weighted by its confidence (LXMERT,
objects and attributes), and its whole distribution over the classes (ViLBERT).
"""

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -1


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the masked regions, 0 where there are none.

    logits [masked, classes]; labels [masked], -1 where nothing is to be predicted
    (ImageBERT, Qi et al., 2020, section 4.2).
    """
    total = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def confidence_loss(logits: Tensor, labels: Tensor, weights: Tensor, normaliser: Tensor) -> Tensor:
    """Return the sum of weighted cross-entropies over `normaliser`, 0 where that is 0.

    logits [predicted, classes]; labels [predicted], -1 where nothing is to be predicted; weights
    [predicted] the detector's confidence; normaliser [] regions of the batch times the share that
    is masked. LXMERT (Tan and Bansal, EMNLP 2019) predicts every region, masked or not.
    """
    each = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none")
    return share(each * weights.float(), normaliser)


def distribution_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Return the mean KL divergence from the model to the detector, 0 where nothing is masked.

    logits, probabilities [masked, classes]. ViLBERT (Lu et al., NeurIPS 2019, section 3.1) divides
    by the count of masked regions even where it is 0, which makes the step NaN; here it costs 0.
    """
    total = functional.kl_div(
        logits.float().log_softmax(dim=-1), probabilities.float(), reduction="sum"
    )
    return total / max(1, logits.shape[0])


def share(each: Tensor, normaliser: Tensor) -> Tensor:
    """Return the sum of `each` [predicted] over `normaliser` [], 0 where that is 0."""
    divisor = normaliser.float()
    return torch.where(divisor > 0, each.sum() / divisor.where(divisor > 0, 1.0), 0.0)
