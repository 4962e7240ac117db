"""Image-text matching: do caption and image belong together (1) or not (0)?"""

from torch import Tensor
from torch.nn import functional


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits [batch, 2] against labels [batch]."""
    return functional.cross_entropy(logits.float(), labels)
