"""The recipes of Oscar, Oscar+ and ImageBERT: read, fit for their models, and as the sheet says."""

from typing import Any

import pytest

from pretrain.models.families import family
from pretrain.objectives import check_objectives
from pretrain.recipe import PretrainRecipe, locate
from trawl import recipe as recipes


def read(name: str) -> tuple[PretrainRecipe, Any]:
    """The recipe called `name`, and the configuration that it asks for."""
    found = recipes.load(locate(name), PretrainRecipe)
    kind = family(found.model.family).configuration
    return found, kind.of_size(found.model.size, **found.model.config)


@pytest.mark.parametrize("name", ["oscar", "oscar-plus", "imagebert"])
def test_recipes_ask_for_objectives_that_the_model_has(name: str) -> None:
    found, config = read(name)
    for stage in found.stages:
        check_objectives(stage.objectives, config)
        assert set(stage.objectives.values()) == {1.0}
    assert found.model.init.bert is not None


def test_oscar_is_two_way_and_oscar_plus_three_way() -> None:
    (oscar, plain), (plus, normalised) = read("oscar"), read("oscar-plus")
    assert (plain.num_contrast_classes, normalised.num_contrast_classes) == (2, 3)
    assert (plain.use_img_layernorm, normalised.use_img_layernorm) == (False, True)
    for config in (plain, normalised):
        assert (config.max_seq_length, config.max_regions, config.img_feature_dim) == (35, 50, 2054)
    (stage,), (longer,) = oscar.stages, plus.stages
    assert (stage.steps, stage.batch.samples) == (1_000_000, 768)
    assert (longer.steps, longer.batch.samples) == (2_000_000, 1024)
    for each in (stage.optimizer, longer.optimizer):
        assert (each.name, each.lr, each.betas, each.eps) == ("hf-adamw", 5e-5, (0.9, 0.999), 1e-8)
        assert (each.weight_decay, each.decay_groups, each.warmup_steps) == (0.01, "oscar", 0)


def test_imagebert_sees_lait_before_cc_and_sbu() -> None:
    found, config = read("imagebert")
    assert (config.max_seq_length, config.max_regions, config.object_classes) == (44, 100, 1600)
    first, second = found.stages
    assert [data.corpus for data in first.data] == ["corpora/lait"]
    assert found.parent_stage(second) == first.name
    assert [data.weight for data in second.data] == [3.0, 1.0]
    for stage, pairs in ((first, 10e6), (second, 4e6)):
        assert stage.steps * stage.batch.samples / pairs == pytest.approx(17, rel=0.001)
        assert (stage.optimizer.lr, stage.batch.micro_batch) == (1e-4, 48)
