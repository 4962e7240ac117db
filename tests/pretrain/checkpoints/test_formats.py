"""Checkpoints in and out: bit for bit, strict about keys, sure of polarity, safe with pickles."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pretrain.checkpoint_cli import checkpoint
from pretrain.checkpoints import import_export
from pretrain.checkpoints.formats import format_named, tensors
from pretrain.checkpoints.formats.format import MatchHead
from pretrain.checkpoints.pull import verify
from pretrain.models.loading import load_pretrained
from tests.pretrain.checkpoints import originals
from tests.pretrain.checkpoints.originals import EXAMPLES, HEADS, LAYERS, Example
from tests.pretrain.checkpoints.round_trip import (
    assert_same_file,
    bits,
    bring_in,
    bring_out,
)
from trawl.errors import RequestError


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_original_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]()
    source = example.write(tmp_path / "original")
    told = bring_in(example, source, tmp_path / "ours")
    out = tmp_path / "back"
    bring_out(tmp_path / "ours", out, name)
    assert_same_file(source / example.file, out / example.file, example.wrapped_in)
    if example.config and not example.wrapped_in:
        assert json.loads((out / example.beside).read_text()) == example.config
    assert any(line.startswith("match ") for line in told)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_import_is_a_release_that_loads_with_the_original_values(
    name: str, tmp_path: Path
) -> None:
    example = EXAMPLES[name]()
    source = example.write(tmp_path / "original")
    bring_in(example, source, tmp_path / "ours")
    content = verify(str(tmp_path / "ours"))
    assert content["stage"] == f"imported-{name}"
    model = load_pretrained(tmp_path / "ours")
    state = model.state_dict()
    for key, value in example.tensors.items():
        ours = key.removeprefix("module.")
        if ours in state:
            assert torch.equal(state[ours], value), key
    assert len(set(example.tensors) & set(state)) > 40 or name == "lxmert"


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_model_of_ours_is_written_with_the_original_names(name: str, tmp_path: Path) -> None:
    """No memory of an original: the names are the sheet's, and the file comes in again."""
    example = EXAMPLES[name]()
    bring_in(example, example.write(tmp_path / "original"), tmp_path / "ours")
    load_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "trained")
    told = bring_out(tmp_path / "trained", tmp_path / "back", name, wrapper=name == "lxmert")
    form = format_named(name, None)
    written = tensors.read(tmp_path / "back" / form.files[0], example.wrapped_in)
    downstream = {key for key in example.tensors if key.startswith(("vil_", "vision_logit"))}
    assert set(written.tensors) == set(example.tensors) - downstream
    assert not any("left out" in line for line in told)
    for key, value in written.tensors.items():
        assert bits(value) == bits(example.tensors[key]), key
    assert tensors.aliases(written.tensors).keys() == tensors.aliases(example.tensors).keys()
    again = bring_in(example, tmp_path / "back", tmp_path / "again")
    assert any(line.startswith("release") for line in again)


def test_a_file_without_the_usual_wrapping_comes_back_without(tmp_path: Path) -> None:
    example = originals.xvlm()
    source = example.write(tmp_path / "original")
    torch.save(example.tensors, source / example.file)
    bring_in(example, source, tmp_path / "ours")
    bring_out(tmp_path / "ours", tmp_path / "back", "xvlm")
    assert_same_file(source / example.file, tmp_path / "back" / example.file, None)


def test_a_single_file_can_be_named(tmp_path: Path) -> None:
    example = originals.lxmert()
    source = example.write(tmp_path / "original")
    bring_in(example, source / example.file, tmp_path / "ours")
    bring_out(tmp_path / "ours", tmp_path / "Mine_LXRT.pth", "lxmert")
    assert_same_file(source / example.file, tmp_path / "Mine_LXRT.pth", None)
    with pytest.raises(RequestError, match="exists"):
        bring_out(tmp_path / "ours", tmp_path / "Mine_LXRT.pth", "lxmert")


def test_sizes_are_read_from_the_tensors(tmp_path: Path) -> None:
    example = originals.vinvl()
    bring_in(example, example.write(tmp_path / "original"), tmp_path / "ours")
    config = load_pretrained(tmp_path / "ours").config
    assert (config.num_hidden_layers, config.num_attention_heads) == (LAYERS, HEADS)
    assert config.use_img_layernorm
    assert (config.num_contrast_classes, config.texta_false_prob) == (3, 0.25)
    assert config.img_feature_dim == originals.REGION


def test_the_sizes_of_swin_are_read_from_its_tables(tmp_path: Path) -> None:
    example = originals.xvlm()
    bring_in(example, example.write(tmp_path / "original"), tmp_path / "ours")
    config = load_pretrained(tmp_path / "ours").config
    assert (config.window_size, config.image_size, config.fusion_layer) == (2, 16, 1)
    assert (config.vision_depths, config.vision_heads) == ([2, 1], [1, 2])
    assert (config.max_seq_length, config.embed_dim) == (20, 6)


# Spellings and kinds of tensors.


def old_spelling(example: Example) -> None:
    for key in list(example.tensors):
        new = key.replace("LayerNorm.weight", "LayerNorm.gamma")
        new = new.replace("LayerNorm.bias", "LayerNorm.beta")
        example.tensors[new] = example.tensors.pop(key)


def wrapper(example: Example) -> None:
    for key in list(example.tensors):
        example.tensors[f"module.{key}"] = example.tensors.pop(key)


def half(example: Example) -> None:
    for key in list(example.tensors):
        example.tensors[key] = example.tensors[key].half()


def double(example: Example) -> None:
    key = "bert.pooler.dense.weight"
    example.tensors[key] = example.tensors[key].double() / 3


def own_decoder(example: Example) -> None:
    key = "cls.predictions.decoder.weight"
    example.tensors[key] = example.tensors[key].clone()


def downstream(example: Example) -> None:
    example.tensors["classifier.weight"] = torch.randn(2, originals.HIDDEN)
    example.tensors["classifier.bias"] = torch.randn(2).to(torch.bfloat16)


@pytest.mark.parametrize(
    "change",
    [old_spelling, wrapper, half, double, own_decoder, downstream],
    ids=lambda f: f.__name__,
)
def test_other_spellings_and_number_formats_come_back(
    change: Callable[[Example], None], tmp_path: Path
) -> None:
    example = originals.oscar()
    change(example)
    source = example.write(tmp_path / "original")
    bring_in(example, source, tmp_path / "ours")
    bring_out(tmp_path / "ours", tmp_path / "back", "oscar")
    assert_same_file(source / example.file, tmp_path / "back" / example.file, None)
    model = load_pretrained(tmp_path / "ours")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_decoder_that_is_not_tied_needs_to_be_said(tmp_path: Path) -> None:
    example = originals.oscar()
    example.tensors["cls.predictions.decoder.weight"] = torch.randn(originals.WORDS, 16)
    source = example.write(tmp_path / "original")
    with pytest.raises(RequestError, match="--set tie_word_embeddings=false"):
        bring_in(example, source, tmp_path / "ours")
    bring_in(example, source, tmp_path / "ours", overrides=("tie_word_embeddings=false",))
    bring_out(tmp_path / "ours", tmp_path / "back", "oscar")
    assert_same_file(source / example.file, tmp_path / "back" / example.file, None)


def test_a_fine_tuned_checkpoint_gets_new_heads_on_request(tmp_path: Path) -> None:
    example = originals.oscar()
    downstream(example)
    for key in [key for key in example.tensors if key.startswith("cls.")]:
        del example.tensors[key]
    source = example.write(tmp_path / "original")
    with pytest.raises(RequestError, match=r"missing    cls\.seq_relationship\.weight"):
        bring_in(example, source, tmp_path / "ours")
    told = bring_in(example, source, tmp_path / "ours", new_heads=True)
    assert "drawn new  7 tensors, cls.predictions.bias the first" in told
    bring_out(tmp_path / "ours", tmp_path / "back", "oscar")
    assert_same_file(source / example.file, tmp_path / "back" / example.file, None)


# Polarity.


@pytest.mark.parametrize(
    ("name", "published"),
    [("oscar", 0), ("vinvl", 0), ("vilbert", 0), ("vilbert-mt", 0), ("lxmert", 1), ("xvlm", 1)],
)
def test_the_class_of_a_match_is_said_and_is_the_published(
    name: str, published: int, tmp_path: Path
) -> None:
    example = EXAMPLES[name]()
    told = bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    wanted = f"{example.match_head}: class {published} means a match here, class {published} in"
    assert any(wanted in line for line in told)
    assert wanted in (tmp_path / "ours" / "README.md").read_text()


@pytest.mark.parametrize("name", ["vilbert", "lxmert", "xvlm"])
def test_a_format_of_the_other_polarity_is_turned_and_turned_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = EXAMPLES[name]()
    source = example.write(tmp_path / "o")
    form = format_named(name, None)
    head = form.heads[0]
    other = MatchHead(head.prefix, match_class=1 - head.match_class)
    form = dataclasses.replace(form, heads=(other,))
    told = bring_in(example, source, tmp_path / "ours", form=form)
    assert any("its rows change places" in line for line in told)
    state = load_pretrained(tmp_path / "ours").state_dict()
    key = next(key for key in example.tensors if key.endswith(f"{head.prefix}.weight"))
    assert torch.equal(state[f"{head.prefix}.weight"], example.tensors[key].flip(0))
    monkeypatch.setattr(import_export, "format_named", lambda name, family: form)
    bring_out(tmp_path / "ours", tmp_path / "back", name)
    assert_same_file(source / example.file, tmp_path / "back" / example.file, example.wrapped_in)
    # And without memory of the original.
    load_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "trained")
    bring_out(tmp_path / "trained", tmp_path / "new", name, wrapper=name == "lxmert")
    written = tensors.read(tmp_path / "new" / form.files[0], example.wrapped_in).tensors
    assert torch.equal(written[key], example.tensors[key])


# The commands.


def test_the_commands_import_and_export(tmp_path: Path) -> None:
    example = originals.vinvl()
    source = example.write(tmp_path / "o")
    arguments = ["import", str(source), str(tmp_path / "ours"), "--format", "vinvl"]
    done = CliRunner().invoke(checkpoint, arguments, catch_exceptions=False)
    assert "cls.seq_relationship: class 0 means a match" in done.output
    arguments = ["export", str(tmp_path / "ours"), str(tmp_path / "back"), "--format", "vinvl"]
    done = CliRunner().invoke(checkpoint, arguments, catch_exceptions=False)
    assert "pytorch_model.bin" in done.output
    assert_same_file(source / example.file, tmp_path / "back" / example.file, None)
    shown = CliRunner().invoke(checkpoint, ["show", str(tmp_path / "ours")], catch_exceptions=False)
    assert "imported-vinvl" in shown.output


@pytest.mark.parametrize(
    ("form", "model", "message"),
    [
        ("oskar", None, "unknown; take oscar, vinvl"),
        ("bert", None, "say with --family"),
        ("xvlm", "oscar", "is of the family xvlm, not oscar"),
    ],
)
def test_formats_and_families_that_do_not_go_together(
    form: str, model: str | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        format_named(form, model)
