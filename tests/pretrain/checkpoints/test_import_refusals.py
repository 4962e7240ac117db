"""What is not imported: keys that do not fit, damaged files, and pickles that would run code."""

import os
from pathlib import Path

import pytest
import torch

from pretrain.checkpoints.formats import format_named, origin, tensors
from tests.pretrain.checkpoints import originals
from tests.pretrain.checkpoints.originals import EXAMPLES, LAYERS
from tests.pretrain.checkpoints.round_trip import bring_in, bring_out
from trawl.errors import RequestError, WorkError


def test_what_nothing_says_is_asked_for(tmp_path: Path) -> None:
    example = originals.lxmert()
    with pytest.raises(RequestError, match="--set num_attention_heads=VALUE"):
        bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours", overrides=())


def test_a_configuration_that_says_other_sizes_is_refused(tmp_path: Path) -> None:
    example = originals.oscar()
    example.config["hidden_size"] = 768
    with pytest.raises(RequestError, match="hidden_size is 768, but the tensors have 16"):
        bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")


# Strictness.


def test_every_key_that_does_not_fit_is_told_and_alike_ones_together(tmp_path: Path) -> None:
    example = originals.oscar()
    for number in range(LAYERS):
        del example.tensors[f"bert.encoder.layer.{number}.output.dense.bias"]
    example.tensors["bert.extra.weight"] = torch.zeros(3)
    example.tensors["cls.seq_relationship.bias"] = torch.zeros(5)
    with pytest.raises(RequestError) as caught:
        bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    text = str(caught.value)
    assert "missing    bert.encoder.layer.*.output.dense.bias (2 times)" in text
    assert "unknown    bert.extra.weight" in text
    assert "mis-shaped cls.seq_relationship.bias is [5], not [2]" in text
    assert len(text.splitlines()) == 4
    assert not (tmp_path / "ours").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o"]


def test_at_most_twenty_lines_are_told(tmp_path: Path) -> None:
    example = originals.oscar()
    for number in range(50):
        example.tensors[f"strange{number}.weight"] = torch.zeros(1)
    with pytest.raises(RequestError, match="and 31 kinds more") as caught:
        bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    assert len(str(caught.value).splitlines()) == 21


@pytest.mark.parametrize("form", ["vilbert", "lxmert", "xvlm"])
def test_another_family_is_refused(form: str, tmp_path: Path) -> None:
    source = originals.oscar().write(tmp_path / "o")
    with pytest.raises(RequestError, match=r"is missing|has no|look at --format"):
        bring_in(
            originals.oscar(), source / "pytorch_model.bin", tmp_path / "x",
            form=format_named(form, None),
        )  # fmt: skip


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    example = originals.oscar()
    example.vocabulary.append("one-more")
    with pytest.raises(RequestError, match="the tokenizer has 61 words, the model 60"):
        bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")


def test_a_target_that_is_there_is_left_alone(tmp_path: Path) -> None:
    example = originals.oscar()
    source = example.write(tmp_path / "o")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="is not empty"):
        bring_in(example, source, tmp_path / "ours")
    assert (tmp_path / "ours" / "mine.txt").read_text() == "mine"


def test_one_flipped_byte_in_an_import_is_not_exported(tmp_path: Path) -> None:
    example = originals.oscar()
    bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    path = tmp_path / "ours" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WorkError, match=r"model\.safetensors"):
        bring_out(tmp_path / "ours", tmp_path / "back", "oscar")


# Hostile and damaged files.


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["oscar", "xvlm", "lxmert", "vilbert"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_does_not(name: str, zipped: bool, tmp_path: Path) -> None:
    example = EXAMPLES[name]()
    source = example.write(tmp_path / "o")
    mark = tmp_path / "ran"
    content = {**example.tensors, "evil": Hostile(mark)}
    torch.save(content, source / example.file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RequestError, match=r"wants to build posix\.system.*--unsafe-pickle"):
        bring_in(example, source, tmp_path / "ours")
    assert not mark.exists()


def test_unsafe_pickle_reads_what_is_more_than_tensors(tmp_path: Path) -> None:
    example = originals.xvlm()
    source = example.write(tmp_path / "o")
    content = {"model": example.tensors, "config": example.config, "made": Path("by")}
    torch.save(content, source / example.file)
    with pytest.raises(RequestError, match=r"pathlib.*--unsafe-pickle"):
        bring_in(example, source, tmp_path / "ours")
    told = bring_in(example, source, tmp_path / "ours", unsafe_pickle=True)
    assert "left out   made, which is neither tensors of the model nor plain values" in told


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_off_ends_in_one_line(
    share: float, zipped: bool, tmp_path: Path
) -> None:
    example = originals.oscar()
    source = example.write(tmp_path / "o")
    path = source / example.file
    torch.save(example.tensors, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(RequestError, match="damaged or no torch file") as caught:
        bring_in(example, source, tmp_path / "ours")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a mapping"),
        ({"a": 3}, "'a' is a int, not a tensor"),
        ({4: torch.zeros(1)}, "4 is a Tensor, not a tensor|4 is a"),
        ({"a": torch.eye(2).to_sparse()}, "a is not a plain dense tensor"),
        ({}, "is missing"),
    ],
)
def test_files_of_other_things_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(RequestError, match=message):
        bring_in(originals.oscar(), tmp_path / "x.bin", tmp_path / "ours")


def test_a_small_file_does_not_ask_for_a_huge_model(tmp_path: Path) -> None:
    example = originals.oscar()
    source = example.write(tmp_path / "o")
    key = "bert.embeddings.word_embeddings.weight"
    huge = {**example.tensors, key: torch.zeros(1).expand(10**12, 16)}
    torch.save(huge, source / example.file)
    with pytest.raises(RequestError, match="is not a plain dense tensor"):
        bring_in(example, source, tmp_path / "ours")
    far = "bert.encoder.layer.999999999.output.dense.weight"
    torch.save({**example.tensors, far: torch.zeros(1)}, source / example.file)
    (source / "config.json").unlink()
    with pytest.raises(RequestError, match="missing"):
        bring_in(example, source, tmp_path / "ours", overrides=("num_attention_heads=2",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_attention_heads=3", "does not divide by 3 heads"),
        ("num_attention_heads=0", "by zero|divi"),
        ("color=red", "unknown key color"),
        ("heads", "write it as KEY=VALUE"),
        ("vocab_size=[", "is not YAML"),
    ],
)
def test_settings_that_no_network_can_have_are_refused(
    override: str, message: str, tmp_path: Path
) -> None:
    example = originals.oscar()
    with pytest.raises(RequestError, match=message):
        bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours", overrides=(override,))


def test_a_memory_of_an_original_writes_nowhere_else(tmp_path: Path) -> None:
    example = originals.oscar()
    bring_in(example, example.write(tmp_path / "o"), tmp_path / "ours")
    path = tmp_path / "ours" / origin.NAME
    path.write_text(path.read_text().replace('"pytorch_model.bin"', '"../../escaped.bin"'))
    (tmp_path / "ours" / "manifest.json").unlink()
    bring_out(tmp_path / "ours", tmp_path / "in" / "back", "oscar")
    assert (tmp_path / "in" / "back" / "escaped.bin").exists()
    assert not (tmp_path / "escaped.bin").exists()


def test_damaged_safetensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(RequestError, match="damaged or no safetensors"):
        tensors.read(tmp_path / "model.safetensors")
    with pytest.raises(RequestError, match="no such file or folder"):
        bring_in(originals.oscar(), tmp_path / "nowhere", tmp_path / "ours")


def test_a_damaged_memory_of_the_original_is_refused(tmp_path: Path) -> None:
    (tmp_path / origin.NAME).write_text('{"version": 1, "entries": [{"color": "red"}]}')
    with pytest.raises(WorkError, match="import the checkpoint again"):
        origin.read(tmp_path)
