"""BertAdam, the Adam of BERT's release (Devlin et al., 2019): LXMERT and ViLBERT used it."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from pretrain.optimizers.closure import loss_of


class BertAdam(Optimizer):
    """Adam without bias correction, the decay a part of the update.

    Its schedule, which the releases hold inside the optimizer, is `schedules.triangle` here. With
    `clip_each` the gradient of each parameter is first cut to that norm, as pytorch_pretrained_bert
    and ViLBERT do and LXMERT does not; that alone is not elementwise and is wrong under ZeRO, which
    joins parameters and cuts them between the ranks.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        clip_each: float = 0.0,
    ) -> None:
        """Take groups of parameters that may have a `weight_decay` of their own."""
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": 0.0,
            "clip_each": clip_each,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients that are there; return what `closure` returns."""
        loss = loss_of(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        first, second = group["betas"]
        state = self.state[parameter]
        if not state:
            # The update does not read the step; DeepSpeed's conversion of checkpoints does.
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        gradient = _clipped(parameter.grad, group["clip_each"])
        mean.mul_(first).add_(gradient, alpha=1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        update = mean / square.sqrt().add_(group["eps"])
        if group["weight_decay"] > 0:
            update.add_(parameter, alpha=group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"])


def _clipped(gradient: Any, norm: float) -> torch.Tensor:
    """Return `gradient`, scaled down if it is longer than `norm`; 0: as it is."""
    if norm <= 0:
        return torch.as_tensor(gradient)
    # The small number is torch's own in clip_grad_norm_, which the releases call.
    share = torch.clamp(norm / (torch.linalg.vector_norm(gradient) + 1e-6), max=1.0)
    return torch.as_tensor(gradient * share)
