"""Two stages on the demo's world under ZeRO 1, 2 and 3: the same losses, also when killed often."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from pretrain.recipe import locate
from tests.pretrain import forked, kills, runs
from tests.trawl.demo.conftest import Demo
from trawl import chance

PRESETS = ("zero1", "zero2", "zero3")
# Long enough for ten kills, each of which may cost three steps.
STEPS = (24, 18)


def write_recipe(demo: Demo, run: Path, preset: str) -> Path:
    """Write the demo's recipe for a run on its corpora, shortened, and return its file."""
    content: dict[str, Any] = yaml.safe_load(Path(locate("oscar-demo")).read_text())
    # Dropout, so that a generator that is out of step shows.
    still = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    content["model"]["config"] |= dict.fromkeys(still, 0.1)
    corpora = demo.out / "corpora"
    for stage, steps in zip(content["stages"], STEPS, strict=True):
        stage["data"][0]["corpus"] = str(corpora / Path(stage["data"][0]["corpus"]).name)
        stage |= {"steps": steps, "deepspeed": preset, "batch": {"samples": 16, "micro_batch": 4}}
    content["checkpoint"] = {"uri": str(run), "every_steps": 3, "keep_last": 2}
    content["evaluation"] = {"corpus": str(corpora / "held-out"), "count": 12}
    del content["publish"]
    return runs.write_recipe(run.with_suffix(".yaml"), content)


@pytest.fixture(scope="module")
def steady(small_demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run of each preset."""
    folder = tmp_path_factory.mktemp("steady")
    for preset in PRESETS:
        forked.run(write_recipe(small_demo, folder / preset, preset), 2)
    return folder


@pytest.mark.soak
def test_every_stage_of_zero_gives_the_same_losses(steady: Path) -> None:
    first, *others = (forked.losses(steady / preset) for preset in PRESETS)
    assert len(first) == sum(STEPS)
    for other in others:
        assert other == pytest.approx(first, abs=1e-4)


@pytest.mark.soak
@pytest.mark.parametrize("preset", PRESETS)
def test_killed_at_ten_moments_the_parameters_are_those_of_an_undisturbed_run(
    steady: Path, small_demo: Demo, tmp_path: Path, preset: str
) -> None:
    run = tmp_path / "run"
    path = write_recipe(small_demo, run, preset)
    draws = random.Random(chance.seed_of("kills", preset))
    found = [kills.kill(path, run, moment, draws) for moment in kills.MOMENTS]
    print(preset, *found, sep="\n")
    assert all(kill.torn for kill in found if kill.moment == "writing")
    forked.run(path, 2)
    assert runs.exact(run) == runs.exact(steady / preset)
    for stage in ("out-of-domain", "in-domain"):
        name = f"stages/{stage}/model.safetensors"
        assert (run / name).read_bytes() == (steady / preset / name).read_bytes()
