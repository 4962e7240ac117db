"""The objectives, one file each: pure functions of what a model says and what it should say.

A recipe names them: mlm (masked tokens), contrast (polluted tags and captions), itm (matching).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pretrain.objectives import masked_tokens, matching, tag_contrast
from trawl.errors import RequestError

if TYPE_CHECKING:
    from pretrain.models.oscar_config import OscarConfig


@dataclass(frozen=True)
class Objective:
    """A loss, and the names of the output and the target that it reads."""

    loss: Callable[[Tensor, Tensor], Tensor]
    output: str
    target: str


OBJECTIVES = {
    "mlm": Objective(masked_tokens.loss, "prediction_logits", "masked_labels"),
    "contrast": Objective(tag_contrast.loss, "seq_relationship_logits", "contrast_labels"),
    "itm": Objective(matching.loss, "match_logits", "match_labels"),
}


def check_objectives(names: Mapping[str, float], config: "OscarConfig") -> None:
    """Raise RequestError for an objective that is unknown or that the model has no head for."""
    for name in names:
        if name not in OBJECTIVES:
            raise RequestError(f"objectives: unknown key {name}; known: {', '.join(OBJECTIVES)}")
    if "itm" in names and not config.match_head:
        raise RequestError("objectives: itm needs a head; set model.config.match_head to true")


def compute(
    outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of the losses named in `weights`, and each of them, detached.

    outputs: a model's output; batch: the batch that it read, with the targets.
    """
    losses = {
        name: objective.loss(outputs[objective.output], batch[objective.target])
        for name, objective in OBJECTIVES.items()
        if name in weights
    }
    total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    return total, {name: value.detach() for name, value in losses.items()}
