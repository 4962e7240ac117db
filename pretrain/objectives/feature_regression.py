"""Masked region feature regression: what feature did the detector give to a hidden region?"""

from torch import Tensor
from torch.nn import functional

from pretrain.objectives.object_classification import share


def loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared distance over the masked regions, 0 where there are none.

    predictions, targets [masked, feature]; a distance is the sum over the feature, not its mean
    (ImageBERT, Qi et al., 2020, section 4.2).
    """
    return (predictions.float() - targets.float()).square().sum() / max(1, predictions.shape[0])


def smooth_loss(
    predictions: Tensor, targets: Tensor, weights: Tensor, normaliser: Tensor
) -> Tensor:
    """Return the sum of weighted smooth L1 distances over `normaliser`, 0 where that is 0.

    predictions, targets [predicted, feature], a distance is the mean over the feature; weights
    [predicted], 1 where a region is masked; normaliser [] regions of the batch times the share that
    is masked (LXMERT, Tan and Bansal, EMNLP 2019).
    """
    each = functional.smooth_l1_loss(predictions.float(), targets.float(), reduction="none")
    return share(each.mean(dim=-1) * weights.float(), normaliser)
