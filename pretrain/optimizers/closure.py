"""The loss that a step of an optimizer may be asked to compute first, as torch's optimizers do."""

from collections.abc import Callable

import torch


def loss_of(closure: Callable[[], float] | None) -> float | None:
    """Return what `closure` returns, called with gradients on; None where there is none."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
