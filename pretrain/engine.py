"""DeepSpeed around a model: the one place that speaks with its engine."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pretrain import layer_options, optimizers, presets
from pretrain.kernels import selection
from pretrain.ranks import Ranks
from pretrain.recipe import StageRecipe
from trawl.errors import RequestError


def start(
    model: nn.Module, stage: StageRecipe, micro_batch: int, ranks: Ranks, universal: bool = False
) -> Any:
    """Return DeepSpeed's engine around `model` for `stage`, with a client optimizer.

    The model is moved to the rank's device. `universal` says that a checkpoint in universal form
    will be loaded. Raises RequestError if DeepSpeed refuses the preset.
    """
    import deepspeed

    accumulation = stage.batch.samples // (micro_batch * ranks.size)
    config = presets.configuration(stage, micro_batch, accumulation)
    if universal:
        config["checkpoint"] = {"load_universal": True}
    selection.override(stage.kernels)
    model.to(ranks.device)
    if stage.precision == "bf16":
        model.to(torch.bfloat16)
    stretch_scalars(model)
    if stage.activation_checkpointing:
        layer_options.recompute(model)
    if stage.compile:
        layer_options.compile_each(model)
    try:
        optimizer = optimizers.build(model, stage.optimizer, _states_lie(config, ranks))
        engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    except (ValueError, AssertionError) as error:
        raise RequestError(
            f"stage {stage.name}: deepspeed {stage.deepspeed} is refused by DeepSpeed: {error}"
        ) from error
    return engine


def _states_lie(config: dict[str, Any], ranks: Ranks) -> torch.device:
    """Return where the optimizer's states lie: on the rank's device, or offloaded by `config`."""
    offload = config.get("zero_optimization", {}).get("offload_optimizer") or {}
    kept = offload.get("device", "none") == "none"
    return ranks.device if kept else torch.device("cpu")


def stretch_scalars(model: nn.Module) -> None:
    """Give parameters of no dimension one: DeepSpeed views each as bytes, which those cannot be."""
    for parameter in model.parameters():
        if parameter.ndim == 0:
            parameter.data = parameter.data.reshape(1)
            parameter.is_scalar = True  # type: ignore[attr-defined]


def restore_scalars(model: nn.Module) -> None:
    """Take away the dimension that `start` gave to scalars, so that the model is saved as made."""
    for parameter in model.parameters():
        if getattr(parameter, "is_scalar", False) and parameter.ndim == 1:
            parameter.data = parameter.data.reshape(())


def set_rate(engine: Any, rate: float) -> None:
    """Set the learning rate of the next optimizer step, to each group's scale."""
    for group in engine.optimizer.param_groups:
        # Checkpoints from before the scales bring groups without one.
        group["lr"] = rate * group.get("rate_scale", 1.0)


@dataclass(frozen=True)
class GradientNorm:
    """The global norm of the gradient, known before the optimizer takes its step."""

    value: float | None
    """NaN where it is not finite, None where this optimizer of DeepSpeed tells none before."""
    parts: Any = None
    """What DeepSpeed's step would compute it from once more."""


UNKNOWN_NORM = GradientNorm(None)

# The method of each ZeRO stage's optimizer that computes the norm, once in a step.
_NORM_METHODS = {1: "scaled_global_norm", 2: "scaled_global_norm", 3: "_get_norm_groups"}


def _norm_method(engine: Any) -> str | None:
    name = _NORM_METHODS.get(engine.zero_optimization_stage())
    return name if name and hasattr(engine.optimizer, name) else None


def gradient_norm(engine: Any) -> GradientNorm:
    """Return the norm of the gradient that the next step would take, before clipping.

    A collective: every rank calls it, after the last backward of the step.
    """
    if engine.zero_optimization_stage() == 0:
        gradients = [each.grad for each in engine.module.parameters() if each.grad is not None]
        return GradientNorm(_finite_or_nan(float(torch.nn.utils.get_total_norm(gradients))))
    name = _norm_method(engine)
    if name is None:
        return UNKNOWN_NORM
    from deepspeed.runtime.utils import combine_grad_norm_groups

    parts = getattr(engine.optimizer, name)()
    # A group whose norm is not finite makes this infinite.
    whole = combine_grad_norm_groups(parts if isinstance(parts, list) else [parts])
    return GradientNorm(_finite_or_nan(float(whole)), parts)


def _finite_or_nan(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def take_step(engine: Any, norm: GradientNorm) -> float | None:
    """Let the optimizer take its step; return the norm of the gradient as DeepSpeed tells it."""
    name = _norm_method(engine)
    with _replaced(engine.optimizer, name, lambda: norm.parts) if name else nullcontext():
        engine.step()
    if engine.zero_optimization_stage() == 0:
        return norm.value
    told = engine.get_global_grad_norm()
    return None if told is None else float(told)


def discard_step(engine: Any) -> None:
    """Let the step pass without an update: parameters and moments stay, gradients are dropped.

    ZeRO's own way out of an overflow is taken, by telling it that the norm is not finite. Stage 0
    has none, so there the optimizer is kept from its step.
    """
    name = _norm_method(engine)
    if name is None:
        with _replaced(engine.optimizer, "step", lambda *_, **__: None):
            engine.step()
        return
    broken = torch.tensor(-1.0, device=engine.device)
    answer = [broken] if name == _NORM_METHODS[3] else broken
    with _replaced(engine.optimizer, name, lambda: answer):
        engine.step()


@contextmanager
def _replaced(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Put `method` in the place of the method `name` of the object `owner` for a while."""
    setattr(owner, name, method)
    try:
        yield
    finally:
        delattr(owner, name)


def be_deterministic() -> None:
    """Make torch take the same path each time; CUDA needs its workspace set for that."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Some of CUDA's attention kernels have no deterministic form; better a warning than no run.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Nothing reads memory before it is written, and DeepSpeed takes fresh buckets every step: to
    # fill them with NaN would cost more than a small model's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
