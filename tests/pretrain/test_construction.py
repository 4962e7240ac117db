"""Where a stage's weights come from."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from pretrain import construction
from pretrain.ranks import Ranks
from pretrain.recipe import PretrainRecipe
from pretrain.run_folder import RunFolder
from tests.pretrain.checkpoints.round_trip import bring_out
from trawl import recipe as recipes


def test_a_stage_starts_from_a_checkpoint_of_an_original_repository(
    undisturbed: Path, tmp_path: Path
) -> None:
    published = undisturbed / "stages" / "out"
    bring_out(published, tmp_path / "original", "oscar")
    changes = [
        f"checkpoint.uri={tmp_path / 'run'}",
        f"stages.0.init={{original: {tmp_path / 'original'}, format: oscar}}",
    ]
    recipe = recipes.load(undisturbed / "recipe.yaml", PretrainRecipe, changes)
    alone = Ranks(0, 0, 1, torch.device("cpu"))
    run = RunFolder(recipe.checkpoint.uri)
    parts = construction.build(recipe, recipe.stages[0], run, alone)
    weights = parts.model.state_dict()
    for name, value in load_file(published / "model.safetensors").items():
        assert torch.equal(weights[name], value), name
    assert parts.parent is not None
    # The import is made once.
    again = construction.build(recipe, recipe.stages[0], run, alone)
    assert again.parent == parts.parent
