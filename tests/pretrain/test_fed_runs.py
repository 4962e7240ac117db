"""Runs that are packed, fed by processes, and meet bad shards."""

from pathlib import Path
from typing import Any

import pytest

from pretrain.exit_codes import ExitCode
from tests.pretrain import runs, tiny_corpus

PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _recipe(folder: Path, run: str, **batch: Any) -> dict[str, Any]:
    web = str(folder / "web")
    content = runs.recipe(web, web, str(folder / run))
    content["stages"] = content["stages"][:1]
    content["stages"][0]["steps"] = 4
    content["stages"][0]["batch"] = {"samples": 16, "micro_batch": 4, **batch}
    content["model"]["config"].update(PLAIN)
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus one of whose two shards has a flipped byte."""
    folder = tmp_path_factory.mktemp("fed")
    tiny_corpus.write(folder / "web", "web", 48)
    shard = folder / "web" / "shards" / "00001.tar"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    return folder


def test_a_flipped_byte_ends_the_run_with_the_shard_named(folder: Path) -> None:
    content = _recipe(folder, "failing")
    content["feeding"] = {"check": "always"}
    process = runs.Process(runs.write_recipe(folder / "f.yaml", content))
    assert process.wait() == ExitCode.DATA_ERROR, process.said
    last = process.said.strip().splitlines()[-1]
    assert "00001.tar: the checksum is not the manifest's" in last


def test_packed_and_padded_runs_pass_over_the_same_bad_shard(folder: Path) -> None:
    skipping = {"check": "always", "bad_shards": "skip"}
    padded = _recipe(folder, "padded", balance=4)
    padded["feeding"] = skipping
    packed = _recipe(folder, "packed", balance=4, packing="packed")
    packed["feeding"] = {**skipping, "workers": 1}
    alone = runs.Process(runs.write_recipe(folder / "padded.yaml", padded))
    assert alone.wait() == 0, alone.said
    both = runs.Process(runs.write_recipe(folder / "packed.yaml", packed), "--processes", "2")
    assert both.wait() == 0, both.said
    one, two = (runs.lines(folder / name) for name in ("padded", "packed"))
    assert len(one) == len(two) == 4
    for line, other in zip(one, two, strict=True):
        assert other["loss"] == pytest.approx(line["loss"], abs=1e-5)
        assert 0 < other["replaced"] == line["replaced"] < 16
    for name in ("padded", "packed"):
        (event,) = runs.events(folder / name, "shard-passed-over")
        assert event["shard"].endswith("00001.tar")
        assert "checksum" in event["fault"]
