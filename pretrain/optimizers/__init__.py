"""The optimizer of a stage: one of three Adams over the groups of parameters of its recipe."""

from torch import nn
from torch.optim import AdamW, Optimizer

from pretrain.optimizers.bert_adam import BertAdam
from pretrain.optimizers.hf_adamw import HFAdamW
from pretrain.optimizers.parameter_groups import parameter_groups
from pretrain.recipe import OptimizerRecipe


def build(model: nn.Module, recipe: OptimizerRecipe) -> Optimizer:
    """Return the optimizer that `recipe` names, over the parameters of `model` that learn.

    The exact class of torch matters for `adamw`: DeepSpeed knows no other as fit for ZeRO; for ours
    the generated configuration vouches. Raises RequestError for rate_scales that match nothing.
    """
    groups = parameter_groups(model, recipe)
    betas = (recipe.betas[0], recipe.betas[1])
    if recipe.name == "hf-adamw":
        return HFAdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.eps)
    if recipe.name == "bert-adam":
        return BertAdam(
            groups, lr=recipe.lr, betas=betas, eps=recipe.eps, clip_each=recipe.clip_each
        )
    return AdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.eps, fused=True)
