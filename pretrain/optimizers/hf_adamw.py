"""The AdamW of Hugging Face transformers before version 5: Oscar, X-VLM and ViLBERT-MT used it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from pretrain.optimizers.closure import loss_of


class HFAdamW(Optimizer):
    """Adam with bias correction, epsilon on the raw second moment, and decay after the update.

    torch's AdamW adds epsilon to the corrected second moment, a larger one in the first steps, and
    decays the parameter before the update instead of the updated one (Loshchilov and Hutter, 2019).
    Elementwise, so that ZeRO may cut and join parameters at will.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        """Take groups of parameters that may have a `weight_decay` of their own."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

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
            # Named and typed as torch does it: DeepSpeed's conversion of checkpoints reads it.
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, mean, square = int(state["step"]), state["exp_avg"], state["exp_avg_sq"]
        mean.mul_(first).add_(parameter.grad, alpha=1 - first)
        square.mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
        rate = group["lr"] * math.sqrt(1 - second**step) / (1 - first**step)
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-rate)
        if group["weight_decay"] > 0:
            parameter.add_(parameter, alpha=-group["lr"] * group["weight_decay"])
