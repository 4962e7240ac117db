"""The probe of a release: a small batch and what the trained model made of it.

Whoever loads the release can give the batch to the model and compare.
"""

import inspect
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretrain.feeding import Batch
from pretrain.models.families import family_of

NAME = "probe.safetensors"
SAMPLES = 2
_OUTPUTS = "outputs."


def write(folder: Path, model: PreTrainedModel, batch: Batch, device: torch.device) -> None:
    """Store what the network under `model` reads of `batch`, and as `outputs.NAME` what it says."""
    from safetensors.torch import save_file

    inputs = _inputs(model, batch)
    outputs = network_outputs(model, {name: value.to(device) for name, value in inputs.items()})
    tensors = {**inputs, **{_OUTPUTS + name: value.cpu() for name, value in outputs.items()}}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / NAME)


def difference(model: PreTrainedModel, folder: Path, device: torch.device) -> float:
    """Return the largest difference between what `model` says and what the release holds."""
    from safetensors.torch import load_file

    tensors = load_file(folder / NAME)
    inputs = {name: value for name, value in tensors.items() if not name.startswith(_OUTPUTS)}
    nn.Module.to(model, device)
    outputs = network_outputs(model, {name: value.to(device) for name, value in inputs.items()})
    return max(
        float((value.cpu() - tensors[_OUTPUTS + name]).abs().max())
        for name, value in outputs.items()
    )


@torch.no_grad()
def network_outputs(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """Return each tensor that the network under `model` says of `batch`, float32, by name.

    In evaluation mode; what the network does not take is left out of the batch.
    """
    network = _network(model)
    training = model.training
    nn.Module.eval(network)
    outputs = network(**_inputs(model, batch))
    nn.Module.train(network, training)
    return {name: value.float() for name, value in outputs.items() if isinstance(value, Tensor)}


def _network(model: PreTrainedModel) -> PreTrainedModel:
    """Return the network without prediction heads that `model` is or holds."""
    if isinstance(model, family_of(model.config).network):
        return model
    if model.base_model is not model:
        return cast(PreTrainedModel, model.base_model)
    return cast(PreTrainedModel, model.network())  # type: ignore[operator]


def _inputs(model: PreTrainedModel, batch: Batch) -> Batch:
    taken = inspect.signature(_network(model).forward).parameters
    return {name: value for name, value in batch.items() if name in taken}
