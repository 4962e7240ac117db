"""What the contract of docs/exit-codes.md says of faults, each brought about for real."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.reading import Reading
from pretrain.batches.order import Place, SampleOrder
from pretrain.cli import pretrain
from pretrain.compare import compare
from pretrain.exit_codes import DataError, ExitCode
from pretrain.feeding import Batch, Feed
from pretrain.ranks import alone
from tests.pretrain import forked, runs, tiny_corpus
from tests.pretrain.conftest import Corpora
from trawl import storage


@pytest.mark.slow
def test_a_sample_that_is_not_a_number_is_skipped_named_and_replayed(
    undisturbed: Path, corpora: Corpora, tmp_path: Path
) -> None:
    broken = tiny_corpus.write(tmp_path / "broken", "web", 48, broken=5)
    run = tmp_path / "run"
    content = runs.recipe(broken, corpora.clean, str(run))
    content["stages"] = content["stages"][:1]
    content["tokenizer"] = {"path": str(undisturbed / "tokenizer")}
    # Neither looking at the weights nor evaluating changes the training.
    content["watch"] = {"checksum_steps": 1, "evaluate_steps": 3, "peak_tflops": 0.1}
    content["evaluation"] = {"corpus": corpora.clean, "count": 4}
    process = runs.Process(runs.write_recipe(tmp_path / "r.yaml", content), "--processes", "2")
    assert process.wait() == 0, process.said

    events = runs.events(run, "bad-step")
    assert 1 <= len(events) <= 2
    event = events[0]
    assert event["problem"] == "the loss is not finite"
    assert event["again"] == "reproducible"
    assert len(event["ranks"]) == 1
    assert event["samples"] == 4
    record = json.loads((run / event["file"]).read_text())
    assert [sample["key"] for sample in record["samples"]] == event["keys"]
    lines = runs.lines(run)
    assert len(lines) == 8
    skipped = [line["step"] for line in lines if line["skipped"]]
    assert skipped == [event["step"] for event in events]
    evaluation = storage.read_json(run / "stages" / "out" / "evaluation.json")
    assert evaluation["training"]["skipped_steps"] == skipped

    done = CliRunner().invoke(pretrain, ["replay", str(run), Path(event["file"]).stem])
    assert done.exit_code == 0, done.output
    assert "loss nan" in done.output
    assert f"of {broken}: img_feats is not finite" in done.output
    assert "reproducible: these samples are broken" in done.output

    # Up to that step it is the run on the same corpus without the broken sample.
    compared = compare(str(undisturbed), str(run))
    assert compared.parting is not None
    assert (compared.parting.stage, compared.parting.step) == ("out", skipped[0])
    fields = [name for name, *_ in compared.parting.differences]
    assert fields == ["loss", "losses", "grad_norm", "skipped"]
    assert "watch.checksum_steps: 100 -> 1" in compared.recipes
    _watched(lines, skipped)

    # As if the run had been lost after its first checkpoint: it skips the same steps again.
    for folder in (run / "checkpoints" / "out").glob("step-*"):
        (folder / "COMPLETE").unlink()
    storage.remove(run / "stages")
    again = runs.Process(tmp_path / "r.yaml", "--processes", "2")
    assert again.wait() == 0, again.said
    assert runs.exact(run) == [{name: line[name] for name in runs.EXACT} for line in lines]
    assert [event["step"] for event in runs.events(run, "bad-step")] == 2 * skipped


def _watched(lines: list[dict[str, Any]], skipped: list[int]) -> None:
    """Look at what is measured beside the loss."""
    weights = [line["parameters"] for line in lines]
    for before, line in zip(weights, lines[1:], strict=False):
        assert (line["parameters"] == before) == (line["step"] in skipped)
    assert len({line["batch"] for line in lines}) == len(lines)
    evaluated = {line["step"]: line["held_out"] for line in lines if line["held_out"]}
    assert sorted(evaluated) == [3, 6, 8]
    assert set(evaluated[3]) == {"loss", "mlm", "contrast"}
    assert evaluated[8]["loss"] < evaluated[3]["loss"]
    assert all(0 < line["mfu"] < 1 for line in lines)
    assert all(line["tokens_per_second"] > line["samples_per_second"] for line in lines)
    assert all(line["memory"] > 1 << 27 for line in lines)
    assert all(0 < line["median_seconds"] <= line["slowest_seconds"] for line in lines)
    assert {line["slowest_rank"] for line in lines} <= {0, 1}


def _run_to_disturb(
    corpora: Corpora, folder: Path, run: Path | None = None
) -> tuple[runs.Process, Path]:
    """Start a run that goes on for long, and wait until it trains; return it and its folder."""
    run = run or folder / "run"
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    content["stages"] = content["stages"][:1]
    content["stages"][0]["steps"] = 100_000
    content["checkpoint"]["every_steps"] = 100_000
    content["guards"] = {"silent_seconds": 10}
    process = runs.Process(runs.write_recipe(folder / "r.yaml", content), "--processes", "2")
    process.wait_for(lambda: len(runs.lines(run)) >= 2)
    return process, run


def _rank_process(path: Path, rank: int) -> int:
    """Return the process of `rank` of the run of the recipe at `path`."""
    wanted = f"LOCAL_RANK={rank}".encode()
    (found,) = (
        process
        for process in runs.ranks_of(path)
        if wanted in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        (signal.SIGKILL, "rank 1 was killed from outside; is the machine out of memory?"),
        (signal.SIGSTOP, "rank 1 gave no sign of life for 10 s"),
    ],
)
def test_a_rank_that_is_killed_or_stopped_ends_the_run_as_a_bad_node(
    corpora: Corpora, tmp_path: Path, sent: signal.Signals, cause: str
) -> None:
    process, run = _run_to_disturb(corpora, tmp_path)
    os.kill(_rank_process(tmp_path / "r.yaml", 1), sent)
    assert process.wait() == ExitCode.BAD_NODE, process.said
    assert process.said.rstrip().splitlines()[-1].startswith(f"trawl: {cause}")
    assert "Traceback" not in process.said
    assert runs.ranks_of(tmp_path / "r.yaml") == []
    if sent == signal.SIGSTOP:
        assert "waiting for it: rank 0 in all" in process.said
        assert runs.events(run, "run-stopped")[-1]["code"] == ExitCode.BAD_NODE
        assert "watchdog: no progress while " in (run / "logs/0.log").read_text()


def test_a_truncated_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(
    undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    shutil.rmtree(run / "stages" / "in")
    newest, before = sorted((run / "checkpoints" / "in").glob("step-*"), reverse=True)[:2]
    file = next(newest.rglob("*optim_states.pt"))
    file.write_bytes(file.read_bytes()[:-1])
    content = yaml.safe_load((undisturbed / "recipe.yaml").read_text())
    content["checkpoint"]["uri"] = str(run)
    ranks = forked.Ranks(runs.write_recipe(tmp_path / "r.yaml", content), 2)
    assert ranks.wait() == [ExitCode.DONE] * 2, ranks.said
    (line,) = (line for line in ranks.said.splitlines() if "passed over" in line)
    assert line.startswith(f"trawl: checkpoint {newest} is passed over: {file.name}")
    assert runs.events(run, "checkpoint-torn")[-1]["folder"] == str(newest)
    assert runs.events(run, "resumed")[-1]["folder"] == str(before)
    assert runs.exact(run) == runs.exact(undisturbed)
    name = "stages/in/model.safetensors"
    assert (run / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB, which a run can begin on; the test is skipped where none can be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)])
    if made.returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_the_machine_s_fault(
    corpora: Corpora, tmp_path: Path, small_disk: Path
) -> None:
    process, _ = _run_to_disturb(corpora, tmp_path, small_disk / "run")
    with (small_disk / "filling").open("wb") as filling, suppress(OSError):
        while True:
            os.write(filling.fileno(), bytes(4096))
    assert process.wait() == ExitCode.BAD_NODE, process.said
    last = process.said.rstrip().splitlines()[-1]
    assert last.startswith("trawl: ")
    assert str(small_disk) in last
    assert "Traceback" not in process.said


class _Reading:
    """A maker that reads the features of its samples, as those of all families do."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def make_stored(self, positions: Sequence[Place]) -> Batch:
        features = [self._corpus[sample].regions.float_features() for _, sample, *_ in positions]
        return {"features": torch.from_numpy(np.concatenate(features))}


def test_a_flipped_byte_in_a_shard_is_a_data_error_that_names_it(
    corpora: Corpora, tmp_path: Path
) -> None:
    broken = tmp_path / "web"
    shutil.copytree(corpora.web, broken)
    shard = sorted(broken.glob("shards/*.tar"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    corpus = Corpus(broken, Reading(check="always"))
    order = SampleOrder([len(corpus)], [1.0], 0, "s")
    feed = Feed(order, _Reading(corpus), len(corpus), 8, alone())
    with pytest.raises(DataError, match=shard.name) as error:
        list(feed.portions(0, 1))
    assert error.value.exit_code == ExitCode.DATA_ERROR
