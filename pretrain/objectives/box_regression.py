"""Box regression: where in the image is what the text speaks of? L1 and GIoU (X-VLM).

GIoU: Rezatofighi et al., CVPR 2019. X-VLM: Zeng et al., ICML 2022, section 3.3.
"""

import torch
from torch import Tensor


def loss(predictions: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of L1 plus (1 - GIoU) over the valid boxes, 0 where none is.

    predictions, targets [batch, 4]: centre and size (x, y, w, h) as shares of the image; valid
    [batch], 0 for a row whose text is not about a box. A box whose size is negative costs its L1
    alone.
    """
    return _loss(predictions, targets, valid, spoil=False)


def published_loss(predictions: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Return `loss` as X-VLM released it: one inverted box takes away the GIoU of the whole batch.

    The test there runs over all rows, those without a valid box included.
    """
    return _loss(predictions, targets, valid, spoil=True)


def _loss(predictions: Tensor, targets: Tensor, valid: Tensor, spoil: bool) -> Tensor:
    predictions, targets, valid = predictions.float(), targets.float(), valid.float()
    mine, given = _corners(predictions), _corners(targets)
    lost = _inverted(mine) | _inverted(given)  # [batch]
    if spoil:
        lost = lost.any()
    distance = (predictions - targets).abs().sum(dim=-1)  # [batch]
    overlap = torch.where(lost, 0.0, 1 - generalized_overlap(mine, given))  # [batch]
    return ((distance + overlap) * valid).sum() / valid.sum().clamp(min=1)


def generalized_overlap(one: Tensor, other: Tensor) -> Tensor:
    """Return the GIoU, -1 to 1, of each row's two boxes.

    one, other [batch, 4]: left, top, right, bottom. A ratio of nothing to nothing counts as 0.
    """
    common = _area(torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:]))
    hull = _area(torch.minimum(one[:, :2], other[:, :2]), torch.maximum(one[:, 2:], other[:, 2:]))
    union = _area(one[:, :2], one[:, 2:]) + _area(other[:, :2], other[:, 2:]) - common
    return _ratio(common, union) - _ratio(hull - union, hull)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, 0 where whole is 0, with a finite gradient there too."""
    return torch.where(whole > 0, part / whole.where(whole > 0, 1.0), 0.0)


def _corners(boxes: Tensor) -> Tensor:
    """Return left, top, right, bottom of boxes [batch, 4] given by centre and size."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _area(first: Tensor, last: Tensor) -> Tensor:
    """Return the areas between left-top and right-bottom corners [batch, 2], 0 if inverted."""
    return (last - first).clamp(min=0).prod(dim=-1)


def _inverted(corners: Tensor) -> Tensor:
    return (corners[:, 2:] < corners[:, :2]).any(dim=-1)
