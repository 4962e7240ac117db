"""Which parameters decay, and which learn faster or slower than the rest."""

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pretrain.recipe import OptimizerRecipe
from trawl.errors import RequestError

_BERT = ("bias", "LayerNorm.weight")
# No name here ends in what X-VLM's heads are called, itm_head.1 and bbox_head.1: their gains decay,
# as does the temperature. And Swin's relative_position_bias_table does not, for the "bias" in it.
_XVLM = ("bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight")


def _named(name: str, parts: tuple[str, ...]) -> bool:
    return any(part in name for part in parts)


DECAYS: dict[str, Callable[[str, Tensor], bool]] = {
    "sound": lambda name, parameter: parameter.ndim >= 2,
    "oscar": lambda name, parameter: not _named(name, _BERT),
    "xvlm": lambda name, parameter: not _named(name, _XVLM),
    "lxmert": lambda name, parameter: True,
    "vilbert-beta": lambda name, parameter: _named(name, _BERT),
    "vilbert-mt": lambda name, parameter: not _named(name, _BERT),
}
"""By the recipe's `decay_groups`: does the parameter of this name decay? The rules that are named
after a family go by substrings of the name, as its release does."""


def parameter_groups(model: nn.Module, recipe: OptimizerRecipe) -> list[dict[str, Any]]:
    """Return the parameters of `model` that learn, grouped by rate, decaying ones first.

    Each group has params, weight_decay and rate_scale: what its rate is multiplied by. A tied
    parameter counts once, by its first name. Raises RequestError for a scale that nothing matches.
    """
    decays = DECAYS[recipe.decay_groups]
    learning = [pair for pair in model.named_parameters() if pair[1].requires_grad]
    for entry in recipe.rate_scales:
        if not any(re.search(entry.match, name) for name, _ in learning):
            raise RequestError(
                f"optimizer.rate_scales: no parameter's name matches {entry.match}; "
                f"the first is called {learning[0][0] if learning else 'nothing'}"
            )
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for scale in dict.fromkeys([1.0, *(entry.scale for entry in recipe.rate_scales)]):
        groups[scale, True], groups[scale, False] = [], []
    for name, parameter in learning:
        groups[_scale(name, recipe), decays(name, parameter)].append(parameter)
    return [
        {
            "params": params,
            "weight_decay": recipe.weight_decay if decaying else 0.0,
            "rate_scale": scale,
        }
        for (scale, decaying), params in groups.items()
        if params
    ]


def _scale(name: str, recipe: OptimizerRecipe) -> float:
    """Return the scale of the first entry that the name matches, 1 if there is none."""
    found = (entry.scale for entry in recipe.rate_scales if re.search(entry.match, name))
    return next(found, 1.0)
