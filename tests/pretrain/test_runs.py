"""Whole runs of the trainer: DeepSpeed ZeRO-1, two ranks under torchrun, gloo."""

import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pretrain.exit_codes import ExitCode
from tests.cluster.faulty_store import faulty_store
from tests.pretrain import forked, runs
from tests.pretrain.conftest import Corpora


def test_a_run_goes_through_its_stages(undisturbed: Path) -> None:
    steps = [(line["stage"], line["step"]) for line in runs.lines(undisturbed)]
    assert steps == [("out", n) for n in range(1, 9)] + [("in", n) for n in range(1, 7)]
    assert all(math.isfinite(line["grad_norm"]) for line in runs.lines(undisturbed))
    first, last = runs.lines(undisturbed)[0], runs.lines(undisturbed)[-1]
    assert set(first["losses"]) == {"mlm", "contrast"}
    assert last["loss"] < first["loss"]
    for name in ("recipe.yaml", "events.jsonl", "logs/0.log", "logs/1.log"):
        assert (undisturbed / name).is_file()
    assert list((undisturbed / "tensorboard" / "in").glob("events.*"))
    kept = sorted(path.name for path in (undisturbed / "checkpoints" / "out").glob("step-*"))
    assert kept == ["step-00000006", "step-00000008"]


def test_a_killed_run_ends_as_an_undisturbed_one(
    undisturbed: Path, corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    content["checkpoint"]["keep_last"] = 9
    path = runs.write_recipe(tmp_path / "r.yaml", content)

    # While a checkpoint is being written.
    torn = run / "checkpoints" / "out" / "step-00000006"
    process = runs.Process(path, "--processes", "2")
    process.wait_for(torn.exists)
    ranks = runs.ranks_of(path)
    process.kill()
    assert len(ranks) >= 2
    # The training goes on meanwhile: had it come further before the kill, that is undone.
    (torn / "COMPLETE").unlink(missing_ok=True)
    for later in (torn.with_name("step-00000008"), run / "checkpoints" / "in", run / "stages"):
        shutil.rmtree(later, ignore_errors=True)

    # In the middle of the second stage, with metrics past its last checkpoint.
    process = runs.Process(path, "--processes", "2")
    process.wait_for(
        lambda: (
            [line["stage"] for line in runs.lines(run)][-1:] == ["in"]
            and runs.lines(run)[-1]["step"] >= 4
        )
    )
    process.kill()
    assert "step-00000006" in process.said
    assert "COMPLETE" in process.said
    assert runs.events(run, "checkpoint-torn")[0]["folder"] == str(torn)
    assert runs.events(run, "resumed")[0]["step"] == 3

    process = runs.Process(path, "--processes", "2")
    assert process.wait() == 0, process.said
    assert runs.ranks_of(path) == []
    assert runs.exact(run) == runs.exact(undisturbed)
    for stage in ("out", "in"):
        theirs = runs.release(undisturbed / "stages" / stage)
        assert runs.release(run / "stages" / stage) == theirs


def test_one_rank_sees_the_samples_of_two_and_saves_when_told_to_stop(
    undisturbed: Path, corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    content["checkpoint"]["every_steps"] = 100
    content["stages"][0]["steps"] = 100
    content["stages"][0]["optimizer"]["decay"] = "constant"
    process = runs.Process(runs.write_recipe(tmp_path / "r.yaml", content), "--processes", "1")
    process.wait_for(lambda: len(runs.lines(run)) >= 4)
    os.kill(process.process.pid, signal.SIGTERM)
    assert process.wait() == ExitCode.PREEMPTED, process.said
    assert "told to stop" in process.said
    assert "Traceback" not in process.said
    done = len(runs.lines(run))
    assert (run / "checkpoints" / "out" / f"step-{done:08d}" / "COMPLETE").is_file()
    # The rates are the same up to the end of the warm-up, and one step beyond it.
    for ours, theirs in zip(runs.lines(run)[:4], runs.lines(undisturbed)[:4], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-4)
        assert ours["lr"] == theirs["lr"]


def test_a_loss_that_is_not_finite_stops_all_ranks(corpora: Corpora, tmp_path: Path) -> None:
    content = runs.recipe(corpora.web, corpora.clean, str(tmp_path / "run"))
    content["stages"][0]["optimizer"] = {"lr": 1e30, "clip": 0.0, "decay": "constant"}
    process = runs.Process(runs.write_recipe(tmp_path / "r.yaml", content), "--processes", "2")
    assert process.wait() == ExitCode.NUMERICS, process.said
    # Every step that is taken breaks the model, so going back and past samples does not help.
    assert "goes back past steps 1 to 5" in process.said
    assert "the loss of step 6, which was the last good one, is not finite" in process.said
    assert "Traceback" not in process.said
    assert not list((tmp_path / "run" / "stages").rglob("*"))


def test_a_broken_shard_is_named(corpora: Corpora, tmp_path: Path) -> None:
    broken = tmp_path / "web"
    shutil.copytree(corpora.web, broken)
    shard = sorted(broken.glob("shards/*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:-512])
    content = runs.recipe(str(broken), corpora.clean, str(tmp_path / "run"))
    # The tokenizer of an earlier run, so that the trainer itself is the first to read the shard.
    content["tokenizer"] = {"samples": 4, "vocabulary": 128}
    process = runs.Process(runs.write_recipe(tmp_path / "r.yaml", content), "--processes", "2")
    assert process.wait() == ExitCode.DATA_ERROR, process.said
    assert shard.name in process.said


def test_a_run_in_an_object_store_goes_on_elsewhere(
    undisturbed: Path, corpora: Corpora, tmp_path: Path, s3: str, s3_settings: dict[str, str]
) -> None:
    from trawl import storage

    uri = f"{s3}/runs/tiny"
    path = runs.write_recipe(tmp_path / "r.yaml", runs.recipe(corpora.web, corpora.clean, uri))
    here, there = tmp_path / "here", tmp_path / "there"
    process = runs.Process(path, "--processes", "2", "--work", str(here), environment=s3_settings)
    process.wait_for(lambda: storage.exists(f"{uri}/checkpoints/out/step-00000006/COMPLETE"))
    process.kill()
    process = runs.Process(path, "--processes", "2", "--work", str(there), environment=s3_settings)
    assert process.wait() == 0, process.said
    (local,) = there.iterdir()
    assert runs.events(local, "resumed")[0]["step"] in (6, 8)
    assert runs.exact(local) == runs.exact(undisturbed)
    assert storage.read_bytes(f"{uri}/metrics.jsonl") == (local / "metrics.jsonl").read_bytes()
    for stage in ("out", "in"):
        theirs = runs.release(undisturbed / "stages" / stage)
        assert runs.release(f"{uri}/stages/{stage}") == theirs


def test_a_run_goes_on_over_a_store_that_fails_now_and_then(
    undisturbed: Path, corpora: Corpora, tmp_path: Path, s3: str, s3_settings: dict[str, str]
) -> None:
    from trawl import storage

    for corpus in (corpora.web, corpora.clean):
        for file in (path for path in Path(corpus).rglob("*") if path.is_file()):
            storage.upload(file, f"{s3}/faulty/{file.relative_to(Path(corpora.web).parent)}")
    uri = f"{s3}/faulty/run"
    content = runs.recipe(f"{s3}/faulty/web", f"{s3}/faulty/clean", uri)
    content["publish"]["uri"] = f"{s3}/faulty/releases"
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    with faulty_store(s3_settings["AWS_ENDPOINT_URL"], share=0.1) as proxy:
        settings = {**s3_settings, "AWS_ENDPOINT_URL": proxy.url}
        settings["TRAWL_CACHE"] = str(tmp_path / "cache")
        ranks = forked.Ranks(path, 2, "--work", str(tmp_path / "work"), environment=settings)
        assert ranks.wait() == [0, 0], ranks.said
    assert proxy.faults.total() >= 10
    # What is decided between writers rests on the one condition that every S3 server keeps.
    assert {condition.lower() for condition in proxy.conditions} == {"if-none-match: *"}
    (local,) = (tmp_path / "work").iterdir()
    # Each sample came once, in its place: the curve is that of a run on a local disk.
    assert runs.exact(local) == runs.exact(undisturbed)
    assert runs.lines(local)[-1]["storage_retries"] > 0
    model = storage.read_bytes(f"{uri}/stages/in/model.safetensors")
    assert model == (undisturbed / "stages" / "in" / "model.safetensors").read_bytes()
    for stage in ("out", "in"):
        assert runs.release(f"{s3}/faulty/releases/{stage}")["stage"] == stage


def test_a_wrong_recipe_is_told_before_any_rank_starts(tmp_path: Path) -> None:
    content = runs.recipe("nowhere", "nowhere", str(tmp_path / "run"))
    content["stages"][0]["optimizer"] = {"warm_up_steps": 3}
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    process = runs.Process(path)
    assert process.wait() == 2
    assert f"{path}: unknown key stages.0.optimizer.warm_up_steps" in process.said
    assert "did you mean warmup_steps?" in process.said
    assert process.said.count("\n") == 1


def test_a_published_stage_loads_in_a_fresh_process(undisturbed: Path) -> None:
    program = """
import sys
import torch, pretrain
from safetensors.torch import load_file
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1]).eval()
probe = load_file(sys.argv[1] + "/probe.safetensors")
inputs = {name: value for name, value in probe.items() if not name.startswith("outputs.")}
with torch.no_grad():
    states = model(**inputs).last_hidden_state
print(float((states - probe["outputs.last_hidden_state"]).abs().max()))
"""
    folder = undisturbed / "stages" / "in"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) <= 1e-6
