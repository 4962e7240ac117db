"""What is done to each layer of a model, whatever its family: recomputation and compilation.

A layer is a member of a ModuleList that holds none itself: the repeated block of an encoder.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def layers(model: nn.Module) -> list[nn.Module]:
    """Return the repeated layers of `model`."""
    members = [
        member for group in model.modules() if isinstance(group, nn.ModuleList) for member in group
    ]
    return [
        member
        for member in members
        if not any(isinstance(inner, nn.ModuleList) for inner in member.modules())
    ]


def recompute(model: nn.Module) -> None:
    """Have each layer's activations computed anew in the backward pass (Chen et al., 2016).

    The numbers stay the same, dropout too: the generator's state is put back for it. Only a layer's
    inputs are kept, for about a third more arithmetic.
    """
    for layer in layers(model):
        layer.forward = partial(_recomputed, layer.forward)


def _recomputed(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False, **named)


def compile_each(model: nn.Module) -> None:
    """Compile each layer by itself: equal ones share a compilation, and names stay as they are."""
    for layer in layers(model):
        layer.compile()


def plain(model: nn.Module) -> None:
    """Take both away again."""
    for layer in layers(model):
        vars(layer).pop("forward", None)
        layer._compiled_call_impl = None
