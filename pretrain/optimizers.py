"""The optimizer of a stage: torch's AdamW over two groups of parameters."""

from torch import nn
from torch.optim import AdamW

from pretrain.recipe import OptimizerRecipe


def build(model: nn.Module, recipe: OptimizerRecipe) -> AdamW:
    """Return AdamW over the parameters of `model` that learn.

    Biases and normalisation gains, the parameters of fewer than two dimensions, do not decay
    (Devlin et al., 2019). The exact torch class matters: DeepSpeed refuses a subclass under ZeRO.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in learning if parameter.ndim >= 2],
            "weight_decay": recipe.weight_decay,
        },
        {
            "params": [parameter for parameter in learning if parameter.ndim < 2],
            "weight_decay": 0.0,
        },
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.lr,
        betas=(recipe.betas[0], recipe.betas[1]),
        eps=recipe.eps,
    )
