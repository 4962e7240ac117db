"""AdamW by the kernels of apex and DeepSpeed, each taken only where it gives torch's numbers.

A few steps on drawn parameters are compared with torch's own before any of them is trusted. State
and groups are those of torch's AdamW whatever computes the step, so a checkpoint goes on with any.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from pretrain.optimizers.closure import loss_of

TOLERANCES = {"parameters": 1e-6, "exp_avg": 1e-6, "exp_avg_sq": 2e-5}
"""How far parameters and moments may be from torch's after the steps of the check, as a share of
the largest number. All these kernels hold the betas in float32: 1 - 0.999 is off by 1.3e-5 there,
and so is the second moment; in the update of the parameters its correction divides that away."""

# Odd lengths, a vector's width and its neighbours, and more than one block of a kernel.
_LENGTHS = (1, 15, 16, 17, 1023, 70001)
_STEPS = 4
# What apex and DeepSpeed call AdamW, and the numbers that a thread block takes.
_DECOUPLED, _CHUNK = 1, 2048 * 32

Update = Callable[[list[tuple[Tensor, Tensor, Tensor, Tensor]], int, dict[str, Any]], None]
"""Takes one step of parameters, their gradients and their two moments; the step counts from 1, and
the group holds lr, betas, eps and weight_decay. All tensors are float32 on one device."""


class FusedAdamW(AdamW):
    """torch's AdamW whose step is taken by `update`."""

    def __init__(self, params: Any, update: Update, **settings: Any) -> None:
        """Take groups of parameters, and torch's settings: lr, betas, eps."""
        super().__init__(params, fused=True, **settings)
        self._update = update

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients that are there; return what `closure` returns."""
        loss = loss_of(closure)
        for group in self.param_groups:
            learning = [each for each in group["params"] if each.grad is not None]
            if not learning:
                continue
            counts = [self._state_of(each)["step"].add_(1) for each in learning]
            by_step: dict[int, list[tuple[Tensor, Tensor, Tensor, Tensor]]] = defaultdict(list)
            # One wait for the device in all, where it keeps the counts.
            for each, count in zip(learning, torch.stack(counts).tolist(), strict=True):
                assert each.is_contiguous()
                state = self.state[each]
                moments = (state["exp_avg"], state["exp_avg_sq"])
                by_step[int(count)].append((each, each.grad.contiguous(), *moments))
            for count, parts in by_step.items():
                self._update(parts, count, group)
        return loss

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter, which torch's AdamW would begin the same way."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _by_lists(kernel: Callable[..., None]) -> Update:
    """Return the update by a `multi_tensor_adam`: apex wrote it, and DeepSpeed took it over."""

    def update(
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]], step: int, group: dict[str, Any]
    ) -> None:
        parameters, gradients, means, squares = (list(each) for each in zip(*parts, strict=True))
        device = parameters[0].device
        overflow = torch.zeros(1, dtype=torch.int32, device=device)
        lists = [gradients, parameters, means, squares]
        first, second = group["betas"]
        rates = (group["lr"], first, second, group["eps"])
        with torch.cuda.device(device):
            kernel(_CHUNK, overflow, lists, *rates, step, _DECOUPLED, 1, group["weight_decay"])

    return update


def _apex() -> Update:
    from amp_C import multi_tensor_adam

    return _by_lists(multi_tensor_adam)


def _deepspeed() -> Update:
    from deepspeed.ops.op_builder import FusedAdamBuilder

    return _by_lists(FusedAdamBuilder().load().multi_tensor_adam)


def _deepspeed_cpu() -> Update:
    """Return the update by DeepSpeed's operator for CPUs, compiled at its first use.

    It keeps powers of the betas from step to step, and would round them otherwise after a resume:
    so the corrections of the moments go into the rate and epsilon here, and decay is made up for.
    """
    from deepspeed.ops.adam import DeepSpeedCPUAdam
    from deepspeed.ops.op_builder import CPUAdamBuilder

    operator = CPUAdamBuilder().load()
    number = DeepSpeedCPUAdam.optimizer_id  # one for the process, beside those that it counts
    DeepSpeedCPUAdam.optimizer_id += 1
    operator.create_adam(number, 1e-3, 0.9, 0.999, 1e-8, 0.0, True, False)

    def update(
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]], step: int, group: dict[str, Any]
    ) -> None:
        # As the operator holds them.
        first, second = (float(np.float32(beta)) for beta in group["betas"])
        root = (1 - second**step) ** 0.5
        stretch = root / (1 - first**step)
        rates = (group["lr"] * stretch, first, second, group["eps"] * root)
        decay = group["weight_decay"] / stretch
        for parameter, gradient, mean, square in parts:
            tensors = (parameter.data, gradient, mean, square)
            operator.adam_update(number, step, *rates, decay, False, *tensors)

    return update


_UPDATES: dict[str, Callable[[], Update]] = {
    "apex": _apex,
    "deepspeed": _deepspeed,
    "deepspeed-cpu": _deepspeed_cpu,
}
_OPERATORS = {"deepspeed": "fused_adam", "deepspeed-cpu": "cpu_adam"}


@cache
def update_by(name: str) -> Update:
    """Return the update of the implementation `name`; DeepSpeed's are compiled if need be."""
    return _UPDATES[name]()


def obstacle(name: str, device: str, asked: bool) -> str | None:
    """Return why the implementation `name` does not take steps on `device`, None if it does.

    asked: a recipe names it, so it may be compiled, which takes a minute; otherwise it has to be
    there already. What it computes is compared with torch's once in a process.
    """
    if name in _OPERATORS and not asked and not _built(_OPERATORS[name]):
        built = f"DS_BUILD_{_OPERATORS[name].upper()}=1"
        return f"{name} was not built ({built} when deepspeed is installed), nor asked for"
    return _difference(name, device)


def _built(operator: str) -> bool:
    from deepspeed.git_version_info import installed_ops

    return bool(installed_ops.get(operator, False))


@cache
def _difference(name: str, device: str) -> str | None:
    """Return why an implementation is not torch's equal on `device`, None if it is."""
    try:
        apart = distances(update_by(name), device)
    except Exception as error:  # of compilers and drivers, whatever they raise
        first = (str(error).strip().splitlines() or [""])[0]
        return f"{name} cannot be loaded: {type(error).__name__}: {first}"
    for part, allowed in TOLERANCES.items():
        if not apart[part] <= allowed:
            return f"{name} differs from torch in {part} by {apart[part]:.1e}, not {allowed:.0e}"
    return None


def distances(update: Update, device: str) -> dict[str, float]:
    """Return how far steps by `update` are from torch's, by the keys of `TOLERANCES`."""
    chance = torch.Generator().manual_seed(0)
    start = [torch.randn(length, generator=chance) for length in _LENGTHS]
    gradients = [
        [torch.randn(length, generator=chance) * 10.0**-place for length in _LENGTHS]
        for place in range(_STEPS)
    ]
    settings: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-3}
    results = []
    for fused in (False, True):
        parameters = [part.clone().to(device).requires_grad_() for part in start]
        groups = [
            {"params": parameters[::2], "weight_decay": 0.1},
            {"params": parameters[1::2], "weight_decay": 0.0},
        ]
        optimizer = FusedAdamW(groups, update, **settings) if fused else AdamW(groups, **settings)
        for of_step in gradients:
            for parameter, gradient in zip(parameters, of_step, strict=True):
                parameter.grad = gradient.to(device)
            optimizer.step()
        states = [{**optimizer.state[each], "parameters": each.detach()} for each in parameters]
        results.append(states)
    return {
        part: max(_apart(one[part], other[part]) for other, one in zip(*results, strict=True))
        for part in TOLERANCES
    }


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the greatest difference as a share of the largest number of `other`."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))
