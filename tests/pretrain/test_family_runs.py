"""Each family through the trainer: two ranks, a stage, its release, its scores, and back again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from pretrain import probe
from pretrain.models.families import FAMILIES
from pretrain.models.loading import load_pretrained
from tests.pretrain import forked, runs, tiny_corpus

KINDS, COLOURS = len(tiny_corpus.KINDS), len(tiny_corpus.COLOURS)
SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "oscar": (
        {**SMALL, "num_hidden_layers": 2, "img_feature_dim": tiny_corpus.FEATURES + 6,
         "max_regions": 6, "match_head": True, "object_classes": KINDS, "feature_head": True},
        {"mlm": 1.0, "itm": 1.0, "moc": 1.0, "mrfr": 0.1},
    ),
    "imagebert": (
        {**SMALL, "num_hidden_layers": 2, "img_feature_dim": tiny_corpus.FEATURES,
         "max_regions": 6, "object_classes": KINDS},
        {"mlm": 1.0, "itm": 1.0, "moc": 1.0, "mrfr": 0.1},
    ),
    "vilbert": (
        {"v_feature_size": tiny_corpus.FEATURES, "v_target_size": KINDS + 1, "max_regions": 6},
        {"mlm": 1.0, "itm": 1.0, "moc": 1.0},
    ),
    "lxmert": (
        {**SMALL, "visual_feat_dim": tiny_corpus.FEATURES, "num_object_labels": KINDS,
         "num_attr_labels": COLOURS, "region_count": "sound", "max_regions": 6,
         "answers": ["yes", "no"]},
        {"mlm": 1.0, "itm": 1.0, "moc-confidence": 0.1, "attributes": 0.1,
         "mrfr-smooth-l1": 0.1, "qa": 1.0},
    ),
    "xvlm": (
        {**SMALL, "image_size": 64, "vision_embed_dim": 8, "vision_heads": [1, 2, 2],
         "window_size": 2, "embed_dim": 16},
        {"itc": 1.0, "itm-hard": 1.0, "mlm": 1.0, "bbox": 1.0},
    ),
}  # fmt: skip

WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PLAIN: dict[str, dict[str, float]] = {
    "vilbert": {
        **WITHOUT_DROPOUT,
        "v_hidden_dropout_prob": 0.0,
        "v_attention_probs_dropout_prob": 0.0,
        "fusion_dropout_prob": 0.0,
    },
    "lxmert": WITHOUT_DROPOUT,
    "xvlm": WITHOUT_DROPOUT,
}
# Oscar and ImageBERT are padded here; test_fed_runs packs Oscar.
LAYOUT: dict[str, dict[str, Any]] = {
    "vilbert": {"packing": "packed", "balance": 2},
    "lxmert": {"packing": "packed", "balance": 2},
    "xvlm": {"packing": "packed"},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whole")
    return tiny_corpus.write(folder, "whole", 24, images=True, regions_text=True, questions=True)


def _content(family: str, corpus: str, run: Path) -> dict[str, Any]:
    """A recipe of one short stage with all objectives of a family."""
    config, objectives = SETTINGS[family]
    content = runs.recipe(corpus, corpus, str(run))
    content["model"] = {
        "family": family,
        "size": "tiny",
        "config": {"max_seq_length": 24, **config},
    }
    content["stages"] = [
        {**content["stages"][0], "steps": 3, "objectives": objectives, "optimizer": {"lr": 1e-3}}
    ]
    return content


@pytest.mark.soak
@pytest.mark.parametrize("family", ["vilbert", "lxmert", "xvlm"])
def test_a_packed_run_has_the_losses_of_a_padded_one(
    family: str, corpus: str, tmp_path: Path
) -> None:
    for name in ("padded", "packed"):
        content = _content(family, corpus, tmp_path / name)
        content["model"]["config"] |= PLAIN[family]
        content["stages"][0]["batch"] |= {**LAYOUT[family], "packing": name}
        content["publish"] = {"licence": "cc0-1.0"}
        recipe = runs.write_recipe(tmp_path / f"{name}.yaml", content)
        # The contrast of X-VLM is among the samples of all ranks.
        forked.run(recipe, 1 if name == "padded" and family != "xvlm" else 2)
    padded, packed = (runs.lines(tmp_path / name) for name in ("padded", "packed"))
    assert len(padded) == len(packed) == 3
    for line, other in zip(padded, packed, strict=True):
        assert other["losses"] == pytest.approx(line["losses"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("family", SETTINGS)
def test_a_family_trains_publishes_and_loads_again(
    family: str, corpus: str, tmp_path: Path
) -> None:
    content = _content(family, corpus, tmp_path / "run")
    content["stages"][0]["batch"] |= LAYOUT.get(family, {})
    content["evaluation"] = {"corpus": corpus, "count": 6}
    process = runs.Process(runs.write_recipe(tmp_path / "r.yaml", content), "--processes", "2")
    assert process.wait() == 0, process.said

    folder = tmp_path / "run" / "stages" / "out"
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert set(evaluation["training"]["losses"]) == set(SETTINGS[family][1])
    assert evaluation["parity"]["max_difference"] <= 1e-5
    assert 0.0 <= evaluation["retrieval"]["t2i_r1"] <= 1.0
    device = torch.device("cpu")
    assert probe.difference(load_pretrained(folder), folder, device) <= 1e-5
    network = AutoModel.from_pretrained(folder)
    assert type(network) is FAMILIES[family].network
    assert probe.difference(network, folder, device) <= 1e-5
