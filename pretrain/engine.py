"""DeepSpeed around a model: the one place that speaks with its engine."""

import os
from typing import Any

import torch
from torch import nn

from pretrain import layer_options, optimizers, presets
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
    model.to(ranks.device)
    if stage.precision == "bf16":
        model.to(torch.bfloat16)
    _stretch_scalars(model)
    if stage.activation_checkpointing:
        layer_options.recompute(model)
    if stage.compile:
        layer_options.compile_each(model)
    try:
        engine, _, _, _ = deepspeed.initialize(
            model=model, optimizer=optimizers.build(model, stage.optimizer), config=config
        )
    except (ValueError, AssertionError) as error:
        raise RequestError(
            f"stage {stage.name}: deepspeed {stage.deepspeed} is refused by DeepSpeed: {error}"
        ) from error
    return engine


def _stretch_scalars(model: nn.Module) -> None:
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


def undivided_gradient_norm(engine: Any) -> float | None:
    """Return the norm of the gradient before the step is taken, None where ZeRO divides it."""
    if engine.zero_optimization_stage() > 0:
        return None
    gradients = [each.grad for each in engine.module.parameters() if each.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def divided_gradient_norm(engine: Any) -> float | None:
    """Return the global norm of the last step's gradient before clipping, as ZeRO computed it."""
    norm = engine.get_global_grad_norm()
    return None if norm is None else float(norm)


def be_deterministic() -> None:
    """Make torch take the same path each time; CUDA needs its workspace set for that."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Some of CUDA's attention kernels have no deterministic form; better a warning than no run.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Nothing reads memory before it is written, and DeepSpeed takes fresh buckets every step: to
    # fill them with NaN would cost more than a small model's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
