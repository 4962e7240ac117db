"""ViLBERT's two recipes: whole, and with the groups of parameters of the released code."""

import re

import pytest
import torch
from torch import nn

from pretrain.models.vilbert import ViLBertForPreTraining
from pretrain.models.vilbert_config import ViLBertConfig
from pretrain.objectives import check_objectives
from pretrain.optimizers.parameter_groups import parameter_groups
from pretrain.recipe import PretrainRecipe, locate
from trawl import recipe as recipes


def shipped(name: str) -> tuple[PretrainRecipe, nn.Module]:
    recipe = recipes.load(locate(name), PretrainRecipe)
    with torch.device("meta"):
        config = ViLBertConfig.of_size(recipe.model.size, **recipe.model.config)
        return recipe, ViLBertForPreTraining(config)


@pytest.mark.parametrize("name", ["vilbert", "vilbert-mt"])
def test_the_recipe_fits_the_model(name: str) -> None:
    recipe, model = shipped(name)
    stage = recipe.stages[0]
    check_objectives(stage.objectives, model.config)
    assert stage.batch.samples == 512
    assert stage.optimizer.warmup_steps == stage.steps // 10


def test_beta_decays_biases_and_gains_alone_and_slows_what_came_from_bert() -> None:
    recipe, model = shipped("vilbert")
    found = parameter_groups(model, recipe.stages[0].optimizer)
    names = {parameter: name for name, parameter in model.named_parameters()}
    scales, decays = {}, {}
    for group in found:
        for parameter in group["params"]:
            scales[names[parameter]] = group["rate_scale"]
            decays[names[parameter]] = group["weight_decay"]
    slow = [name for name, scale in scales.items() if scale == 0.1]
    assert len(slow) == 197  # 5 tensors of embeddings and 16 of each of 12 layers
    assert not any(re.search(r"v_|c_layer|pooler|cls", name) for name in slow)
    assert decays["bert.encoder.v_layer.0.output.dense.bias"] == 0.01
    assert decays["bert.encoder.c_layer.0.biOutput.dense1.weight"] == 0
    # The names of the connection's norms end in a number, and the rule does not know them.
    assert decays["bert.encoder.c_layer.0.biOutput.LayerNorm1.weight"] == 0
    assert decays["bert.encoder.layer.0.output.LayerNorm.weight"] == 0.01


def test_multi_task_decays_weights_and_has_one_rate() -> None:
    recipe, model = shipped("vilbert-mt")
    assert recipe.model.config["mask_loss_for_unmatched"] is False
    assert recipe.model.config["global_feature"] == "multi_task"
    found = parameter_groups(model, recipe.stages[0].optimizer)
    assert {group["rate_scale"] for group in found} == {1.0}
    assert sorted(group["weight_decay"] for group in found) == [0.0, 0.01]
