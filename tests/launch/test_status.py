"""What `status` tells of jobs: of real runs, of machines that fall silent, of very long files."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch import attempts
from launch.attempts import NodeEnding
from launch.cli import launch
from launch.job import Job, Work
from launch.place import Place
from launch.state import State
from launch.status import status_of
from pretrain.metrics import StepMetrics
from tests.pretrain import runs
from trawl import storage
from trawl.events import EventLog


def test_a_training_is_told_as_its_files_have_it(done_job: Path) -> None:
    status = status_of(done_job)
    assert (status.name, status.kind, status.now) == ("tiny", "training", "done")
    assert (status.health, status.troubles) == ("good", [])
    run = done_job.parents[1] / "run"
    last = runs.lines(run)[-6:]
    training = status.training
    assert training is not None
    assert (training.stage, training.number, training.stages) == ("in", 2, 2)
    assert (training.step, training.steps, training.loss) == (6, 6, last[-1]["loss"])
    seconds = sum(line["seconds"] for line in last)
    assert training.seconds_per_step == pytest.approx(seconds / 6)
    assert training.samples_per_second == pytest.approx(6 * 8 / seconds)
    assert training.seconds_left == 0
    assert training.published == ["out", "in"]
    assert training.done
    assert training.checkpoint is not None
    assert (training.checkpoint.stage, training.checkpoint.step) == ("in", 6)
    (node,) = status.nodes
    assert (node.node, node.code, node.cause, node.attempt) == (0, 0, "done", 1)
    (attempt,) = status.attempts
    assert (attempt.number, attempt.code, attempt.progress) == (1, 0, 14)


def test_it_is_shown_as_table_list_and_json(done_job: Path) -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(launch, ["status", *arguments, "--state", str(done_job.parent)])
        assert done.exit_code == 0, done.output
        return done.output

    table = said("tiny")
    for words in ("tiny: done (training on local, attempt 1)", "in (2 of 2)", "6 of 6 (100.0%)"):
        assert words in table
    assert "last checkpoint  step 6 of in" in table
    assert "health good" in table
    (line,) = (line for line in said().splitlines() if line.startswith("tiny"))
    assert "in 6/6" in line
    (content,) = json.loads(said(str(done_job), "--json"))
    assert (content["training"]["step"], content["health"]) == (6, "good")
    assert "events" not in content["training"]
    wrong = CliRunner().invoke(launch, ["status", "none", "--state", str(done_job.parent)])
    assert "none: no job file, and no job of that name" in str(wrong.exception)


def a_run(tmp_path: Path, done_job: Path) -> tuple[Path, Path]:
    """A copy of the done job as it was in its first stage, on three machines."""
    run, folder = tmp_path / "run", tmp_path / "job"
    shutil.copytree(done_job.parents[1] / "run", run)
    shutil.rmtree(run / "stages")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:5]))
    content = runs.recipe(str(tmp_path), str(tmp_path), str(run))
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)
    place = Place.model_validate({"backend": "ssh", "ssh": {"hosts": ["a", "b", "c"]}, "nodes": 3})
    attempts.submit(folder, Job(name="job", run=Work(pretrain=str(recipe)), place=place))
    attempts.begin(folder, 1, 0)
    for node, host in enumerate("abc"):
        attempts.beat(folder, 1, node, host)
    return run, folder


def test_a_silent_machine_and_a_run_that_stands_still_are_told(
    tmp_path: Path, done_job: Path
) -> None:
    run, folder = a_run(tmp_path, done_job)
    running = State("running", 1, "attempt-started")
    status = status_of(folder, running)
    assert status.health == "good", status.troubles
    assert [node.host for node in status.nodes] == ["a", "b", "c"]
    training = status.training
    assert training is not None
    assert (training.stage, training.step, training.steps) == ("out", 5, 8)
    assert training.seconds_per_step
    assert training.stage_seconds_left == pytest.approx(3 * training.seconds_per_step)
    assert training.seconds_left == pytest.approx(9 * training.seconds_per_step)
    before = time.time() - 3600
    os.utime(attempts.beat_of(folder, 1, 1), (before, before))
    status = status_of(folder, running)
    assert [trouble.text for trouble in status.troubles] == [
        "node 1 (b) gave no sign of life for 3600 s"
    ]
    assert status.health == "bad"
    attempts.write_ending(folder, 1, NodeEnding(1, "b", 71, "trawl: no room"))
    assert status_of(folder, running).health == "good"
    with EventLog(run / "events.jsonl") as log:
        log.write("rolled-back", stage="out", first=2, last=4)
        log.write("stragglers", stage="out", step=5, ranks=[2])
    told = [trouble.text for trouble in status_of(folder, running).troubles]
    assert told == [
        "stage out went back past the steps 2 to 4",
        "ranks [2] of out are slower than the others",
    ]


def test_a_job_whose_recipe_is_gone_is_told_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    attempts.submit(folder, Job(name="job", run=Work(pretrain=str(tmp_path / "none.yaml"))))
    status = status_of(folder)
    assert status.now == "lost"
    assert any("none.yaml" in trouble.text for trouble in status.troubles)


def test_a_run_in_an_object_store_is_told_from_there(
    s3: str, tmp_path: Path, done_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAWL_CACHE", str(tmp_path / "cache"))  # nothing of it lies here
    run = done_job.parents[1] / "run"
    for name in ("metrics.jsonl", "events.jsonl", "stages/out/manifest.json"):
        storage.upload(run / name, f"{s3}/run/{name}")
    content = runs.recipe(str(tmp_path), str(tmp_path), f"{s3}/run")
    recipe = runs.write_recipe(tmp_path / "r.yaml", content)
    attempts.submit(tmp_path / "job", Job(name="job", run=Work(pretrain=str(recipe))))
    training = status_of(tmp_path / "job").training
    assert training is not None
    assert (training.stage, training.step, training.published) == ("in", 6, ["out"])
    assert training.checkpoint is not None
    assert training.checkpoint.step == 6


def test_a_damaged_job_does_not_hide_the_others(tmp_path: Path, done_job: Path) -> None:
    shutil.copytree(done_job, tmp_path / "tiny")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "job.yaml").write_text("name: [\n")
    done = CliRunner().invoke(launch, ["status", "--state", str(tmp_path)])
    assert done.exit_code == 0
    assert "tiny" in done.stdout
    assert "broken/job.yaml: line 2" in done.stderr


def long_metrics(path: Path, stage: str, thousands: int) -> None:
    """Write so many thousand lines of metrics, each as the trainer's own log writes it."""
    from dataclasses import asdict

    numbers = dict.fromkeys(StepMetrics.__dataclass_fields__, 1.0)
    values = asdict(StepMetrics(**numbers)) | {"stage": stage, "skipped": None, "losses": {}}  # type: ignore[arg-type]
    before, _, after = json.dumps(values | {"step": "HERE"}).partition('"HERE"')
    with path.open("w") as file:
        for thousand in range(thousands):
            steps = range(thousand * 1000 + 1, thousand * 1000 + 1001)
            file.write("".join(f"{before}{step}{after}\n" for step in steps))


@pytest.mark.parametrize(
    "thousands", [20, pytest.param(10_000, marks=pytest.mark.soak, id="ten million lines")]
)
def test_of_long_metrics_the_end_alone_is_read(
    tmp_path: Path, done_job: Path, thousands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = a_run(tmp_path, done_job)
    long_metrics(run / "metrics.jsonl", "out", thousands)
    reads: list[int] = []
    read = storage.read_range

    def counting(uri: str | Path, start: int, stop: int) -> bytes:
        data = read(uri, start, stop)
        reads.append(len(data))
        return data

    monkeypatch.setattr(storage, "read_range", counting)
    began = time.process_time()
    status = status_of(folder, State("running", 1, "attempt-started"))
    took = time.process_time() - began
    assert status.training is not None
    assert status.training.step == thousands * 1000
    assert sum(reads) < 256 << 10 < (run / "metrics.jsonl").stat().st_size
    assert took < 2.0
