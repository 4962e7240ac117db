"""Hard negatives: wrong partners that the model itself takes for likely ones (ALBEF, X-VLM)."""

import torch
from torch import Tensor

# So that no other row of a batch is ever out of the question as a negative.
_LEAST_WEIGHT = 1e-5
_BELOW_ONE = 1 - 2**-24


def choose_negatives(likeness: Tensor, same: Tensor, draws: Tensor) -> Tensor:
    """Return for each row another one, by inverting the distribution: int64 [batch].

    likeness [batch, batch]: logits; same [batch, batch]: true where a column is not wrong; draws
    [batch] in [0, 1). A row whose whole batch is right takes any other.
    """
    weights = likeness.softmax(dim=1) + _LEAST_WEIGHT
    own = torch.eye(len(same), dtype=torch.bool, device=same.device)
    barred = torch.where(same.all(dim=1, keepdim=True), own, same)
    reached = weights.masked_fill(barred, 0).double().cumsum(dim=1)
    # A draw that was rounded up to 1 lies beyond the last column.
    aim = draws.double()[:, None].clamp(max=_BELOW_ONE) * reached[:, -1:]
    return (reached <= aim).sum(dim=1)
