"""Folders for plain transformers: LXMERT of its port, and text weights as BERT."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pretrain.models.loading import load_pretrained
from tests.pretrain.checkpoints import originals
from tests.pretrain.checkpoints.originals import LAYERS
from tests.pretrain.checkpoints.round_trip import (
    assert_same_file,
    bring_in,
    bring_out,
    loaded_plainly,
)

# transformers' LXMERT and BERT.


def test_lxmert_loads_in_plain_transformers(tmp_path: Path) -> None:
    example = originals.lxmert()
    bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    bring_out(tmp_path / "ours", tmp_path / "hf", "lxmert-hf")
    state = loaded_plainly("LxmertForPreTraining", tmp_path / "hf", tmp_path)
    for key, value in example.tensors.items():
        name = key.removeprefix("module.")
        name = "lxmert." + name.removeprefix("bert.") if name.startswith("bert.") else name
        assert torch.equal(state[name], value), name
    words = (tmp_path / "hf" / "vocab.txt").read_text().split()
    assert words == example.vocabulary


def test_transformers_lxmert_comes_in_and_back(tmp_path: Path) -> None:
    from transformers import LxmertConfig, LxmertForPreTraining

    config = LxmertConfig(
        vocab_size=60, hidden_size=16, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, l_layers=2, r_layers=1, x_layers=1, visual_feat_dim=12,
        num_object_labels=6, num_attr_labels=4, num_qa_labels=9,
    )  # fmt: skip
    LxmertForPreTraining(config).save_pretrained(tmp_path / "hf")
    example = dataclasses.replace(originals.lxmert(), format="lxmert-hf", overrides=())
    told = bring_in(example, tmp_path / "hf", tmp_path / "ours")
    assert any("cls.seq_relationship: class 1 means a match" in line for line in told)
    bring_out(tmp_path / "ours", tmp_path / "back", "lxmert-hf")
    assert_same_file(
        tmp_path / "hf" / "model.safetensors", tmp_path / "back" / "model.safetensors", None
    )
    loaded_plainly("LxmertForPreTraining", tmp_path / "back", tmp_path)


# BERT says the sizes of the text alone; the rest is as published unless it is said.
OTHER_SIZES = {
    "lxmert": ("l_layers=2", "r_layers=1", "x_layers=1"),
    "vilbert": (
        "v_hidden_size=24",
        "v_num_hidden_layers=1",
        "v_num_attention_heads=2",
        "v_intermediate_size=24",
        "bi_hidden_size=24",
        "bi_num_attention_heads=2",
        "v_biattention_id=[0]",
        "t_biattention_id=[1]",
    ),
    "xvlm": (
        "fusion_layer=1",
        "image_size=128",
        "vision_embed_dim=32",
        "vision_depths=[1,1,2,1]",
        "vision_heads=[1,2,4,8]",
        "window_size=4",
    ),
}


def test_transformers_lxmert_says_the_same_as_ours(tmp_path: Path) -> None:
    from transformers import LxmertForPreTraining

    example = originals.lxmert()
    bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    bring_out(tmp_path / "ours", tmp_path / "hf", "lxmert-hf")
    ours = load_pretrained(tmp_path / "ours").eval()
    theirs = LxmertForPreTraining.from_pretrained(tmp_path / "hf").eval()
    batch = {
        "input_ids": torch.randint(5, originals.WORDS, (2, 7)),
        "visual_feats": torch.randn(2, 3, originals.REGION),
        "visual_pos": torch.rand(2, 3, 4),
        "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
    }
    with torch.no_grad():
        said, expected = ours(**batch), theirs(**batch)
    for name, other in (
        ("prediction_logits", expected.prediction_logits),
        ("match_logits", expected.cross_relationship_score),
        ("answer_logits", expected.question_answering_score),
    ):
        assert torch.allclose(said[name], other, rtol=1e-5, atol=1e-4), name


@pytest.mark.parametrize("name", ["oscar", "imagebert", "vilbert", "lxmert", "xvlm"])
@pytest.mark.parametrize("spelled", ["new", "old"])
def test_bert_comes_in_for_every_family_and_back(name: str, spelled: str, tmp_path: Path) -> None:
    example = originals.bert(
        old_spelling=spelled == "old", layers=3 if name == "lxmert" else LAYERS
    )
    example.family = name
    source = example.write(tmp_path / "bert")
    told = bring_in(example, source, tmp_path / "ours", overrides=OTHER_SIZES.get(name, ()))
    assert any(line.startswith("drawn new") for line in told)
    bring_out(tmp_path / "ours", tmp_path / "back", "bert")
    assert_same_file(source / example.file, tmp_path / "back" / example.file, None)


def test_text_weights_of_a_trained_model_load_as_plain_bert(tmp_path: Path) -> None:
    example = originals.xvlm()
    bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    told = bring_out(tmp_path / "ours", tmp_path / "bert", "bert")
    assert any("left out" in line for line in told)
    state = loaded_plainly("BertForMaskedLM", tmp_path / "bert", tmp_path)
    for key, value in state.items():
        assert torch.equal(value, example.tensors[f"text_encoder.{key}"]), key
