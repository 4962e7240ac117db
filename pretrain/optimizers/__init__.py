"""The optimizer of a stage: one of three Adams over the groups of parameters of its recipe."""

import logging

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from pretrain.kernels import selection
from pretrain.optimizers.bert_adam import BertAdam
from pretrain.optimizers.fused_adamw import FusedAdamW, update_by
from pretrain.optimizers.hf_adamw import HFAdamW
from pretrain.optimizers.parameter_groups import parameter_groups
from pretrain.recipe import OptimizerRecipe

_LOG = logging.getLogger("pretrain")


def build(
    model: nn.Module, recipe: OptimizerRecipe, device: torch.device | None = None
) -> Optimizer:
    """Return the optimizer that `recipe` names, over the parameters of `model` that learn.

    device: where its states will lie; nothing: where the parameters are. Raises RequestError for
    rate_scales that match nothing, and where `kernels.adamw` asks for what cannot be had.
    """
    groups = parameter_groups(model, recipe)
    betas = (recipe.betas[0], recipe.betas[1])
    if recipe.name == "hf-adamw":
        return HFAdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.eps)
    if recipe.name == "bert-adam":
        return BertAdam(
            groups, lr=recipe.lr, betas=betas, eps=recipe.eps, clip_each=recipe.clip_each
        )
    device = device or groups[0]["params"][0].device
    name = selection.chosen("adamw", device, torch.float32)
    if name != "torch":
        _LOG.info("adamw by %s", name)
        return FusedAdamW(groups, update_by(name), lr=recipe.lr, betas=betas, eps=recipe.eps)
    _LOG.info("adamw by torch: %s", selection.reasons("adamw", name, device.type, "float32"))
    return AdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.eps, fused=True)
