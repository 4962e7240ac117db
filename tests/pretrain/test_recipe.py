from pathlib import Path

import pytest

import pretrain.recipe
from pretrain import construction, presets
from pretrain.checkpoints import lineage
from pretrain.models import families
from pretrain.recipe import PretrainRecipe
from tests.pretrain import runs
from trawl import recipe as recipes
from trawl.errors import RequestError


def _load(tmp_path: Path, *overrides: str) -> PretrainRecipe:
    path = runs.write_recipe(tmp_path / "r.yaml", runs.recipe("web", "clean", "run"))
    return recipes.load(path, PretrainRecipe, overrides)


def test_a_resolved_recipe_reads_as_itself(tmp_path: Path) -> None:
    recipe = _load(tmp_path)
    (tmp_path / "again.yaml").write_text(recipes.dump(recipe))
    assert recipes.load(tmp_path / "again.yaml", PretrainRecipe) == recipe


def test_the_designs_example_is_a_recipe(tmp_path: Path) -> None:
    text = """
name: imagebert-base
seed: 0
model:  {family: imagebert, size: base, init: {bert: path/to/bert-base-uncased}}
stages:
  - name: out-of-domain
    data: [{corpus: s3://bucket/corpora/web-2026-11, weight: 1.0}]
    objectives: {mlm: 1.0, moc: 1.0, mrfr: 1.0, itm: 1.0}
    steps: 100000
    batch: {samples: 4096, tokens_per_micro_batch: 16384}
    optimizer: {name: adamw, lr: 1.0e-4, weight_decay: 0.01, warmup_steps: 10000}
    deepspeed: zero1
  - name: in-domain
    init: {stage: out-of-domain}
    data: [{corpus: cc3m, weight: 3.0}, {corpus: sbu, weight: 1.0}]
    objectives: {mlm: 1.0}
    steps: 10
    batch: {samples: 8}
checkpoint: {every_steps: 1000, keep_last: 3, uri: s3://bucket/runs/imagebert-base}
publish:    {uri: s3://bucket/releases/imagebert-base}
"""
    (tmp_path / "r.yaml").write_text(text)
    recipe = recipes.load(tmp_path / "r.yaml", PretrainRecipe)
    assert recipe.parent_stage(recipe.stages[1]) == "out-of-domain"
    assert recipe.publish_uri(recipe.stages[1]) == "s3://bucket/releases/imagebert-base/in-domain"


def test_a_stage_starts_from_the_one_before_unless_told_otherwise(tmp_path: Path) -> None:
    recipe = _load(tmp_path)
    assert recipe.parent_stage(recipe.stages[0]) is None
    assert recipe.parent_stage(recipe.stages[1]) == "out"
    alone = _load(tmp_path, "stages.1.init.scratch=true")
    assert alone.parent_stage(alone.stages[1]) is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.0.optimiser.lr=1", "did you mean optimizer"),
        ("stages.0.steps=0", "stages.0.steps"),
        ("stages.1.name=out", "two stages are called out"),
        ("stages.0.name=../out", "stages.0.name"),
        ("stages.1.init.stage=later", "no earlier stage"),
        ("stages.1.init={}", "exactly one of stage, published, original, bert and scratch"),
        ("stages.1.init.original=x.th", "original and format go together"),
        ("stages.0.batch.tokens_per_micro_batch=64", "not both"),
        ("stages.0.optimizer.name=lamb", "stages.0.optimizer.name"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(RequestError, match=r"r\.yaml") as refused:
        _load(tmp_path, override)
    assert words in str(refused.value)


def test_every_key_has_a_description() -> None:
    models = [value for value in vars(pretrain.recipe).values() if isinstance(value, type)]
    for model in models:
        for name, field in getattr(model, "model_fields", {}).items():
            assert field.description, f"{model.__name__}.{name}"


@pytest.mark.parametrize("number", range(4))
def test_presets_are_filled_in(tmp_path: Path, number: int) -> None:
    stage = _load(tmp_path, f"stages.0.deepspeed=zero{number}").stages[0]
    config = presets.configuration(stage, micro_batch=4, accumulation=1)
    assert config["zero_optimization"]["stage"] == number == presets.zero_stage(stage.deepspeed)
    assert config["train_batch_size"] == 8
    assert config["gradient_clipping"] == 1.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"zero_optimisation": {"stage": 1}}', "did you mean zero_optimization"),
        ('{"zero_optimization": {"stag": 1}}', "zero_optimization.stag; did you mean stage"),
        ('{"elasticity": {"enabled": true}}', "DeepSpeed 0.19 took it out: a run goes on with any"),
        ('{"curriculum_learning": {}}', "make it stages of the recipe"),
        ('{"zero_optimization": {"stage": 3, "mics_shard_size": 2}}', "MiCS is gone"),
        ('{"train_batch_size": 8}', "batch.samples"),
        ("[]", "mapping"),
        ("{", "not JSON"),
    ],
)
def test_a_wrong_preset_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "preset.json"
    path.write_text(content)
    with pytest.raises(RequestError, match=r"preset\.json") as refused:
        presets.read(str(path))
    assert words in str(refused.value)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(RequestError, match="zero0, zero1, zero1-offload, zero2"):
        presets.read("zero4")


def test_each_shipped_preset_is_read_and_filled_in(tmp_path: Path) -> None:
    from importlib.resources import files

    names = [each.name for each in files("deepspeed_configs").iterdir()]
    for name in (name.removesuffix(".json") for name in names if name.endswith(".json")):
        stage = _load(tmp_path, f"stages.0.deepspeed={name}").stages[0]
        config = presets.configuration(stage, micro_batch=4, accumulation=1)
        assert str(config["zero_optimization"]["stage"]) in name


def test_compilation_is_refused_under_zero3(tmp_path: Path) -> None:
    changes = ("stages.0.deepspeed=zero3", "stages.0.compile=true")
    stage = _load(tmp_path, *changes).stages[0]
    with pytest.raises(RequestError, match="compile does not go with ZeRO 3"):
        presets.configuration(stage, micro_batch=4, accumulation=1)


def test_keys_that_came_later_leave_the_hash_of_a_recipe_without_them(tmp_path: Path) -> None:
    plain, other = _load(tmp_path), _load(tmp_path, "stages.0.activation_checkpointing=true")
    part = lineage.recipe_part(plain, plain.stages[0])["stage"]
    assert "activation_checkpointing" not in part
    assert "compile" not in part
    assert lineage.recipe_part(other, other.stages[0])["stage"]["activation_checkpointing"] is True


def test_what_is_not_used_leaves_the_hash_of_a_recipe_alone(tmp_path: Path) -> None:
    recipe = _load(tmp_path)
    part = lineage.recipe_part(recipe, recipe.stages[0])["stage"]
    assert not {"shuffle_shards", "packing", "balance"} & {*part, *part["batch"]}
    used = (
        "stages.0.shuffle_shards=4",
        "stages.0.batch.packing=packed",
        "stages.0.batch.balance=2",
    )
    recipe = _load(tmp_path, *used, "feeding.workers=3")
    part = lineage.recipe_part(recipe, recipe.stages[0])["stage"]
    assert (part["shuffle_shards"], part["batch"]["packing"], part["batch"]["balance"]) == (
        4,
        "packed",
        2,
    )


@pytest.mark.parametrize(
    ("family", "override", "words"),
    [
        ("xvlm", "stages.0.batch.balance=2", "balance 2: the batches of xvlm"),
        ("oscar", "stages.0.compile=true", "set compile to false"),
    ],
)
def test_a_packing_that_cannot_be_is_refused(
    tmp_path: Path, family: str, override: str, words: str
) -> None:
    changes = [override] if family != "oscar" else [override, "stages.0.batch.packing=packed"]
    recipe = _load(tmp_path, *changes)
    config = families.family(family).configuration.of_size("tiny")
    with pytest.raises(RequestError, match=words):
        construction.batches(recipe, recipe.stages[0], [], None, config)  # type: ignore[arg-type]
