"""The curves of a stage in each place where they may go, and on from there after a restart."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pretrain import trackers
from pretrain.watch_recipe import WatchRecipe
from trawl.errors import RequestError


def draw(name: Any, run: Path, start: int) -> None:
    """Draw three steps from `start` on, as a run does that begins or goes on there."""
    watch = WatchRecipe(trackers=[name], project="curves")
    trackers.check(watch)
    (tracker,) = trackers.opened(watch, trackers.Place(run, "tiny", "out", start))
    for step in range(start + 1, start + 4):
        tracker.write({"loss": 1.0 / step, "losses/mlm": 2.0 / step}, step)
    tracker.sync()
    tracker.close()


def test_tensorboard_takes_back_what_a_resume_does_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    draw("tensorboard", tmp_path, 0)
    draw("tensorboard", tmp_path, 2)
    board = EventAccumulator(str(tmp_path / "tensorboard" / "out")).Reload()
    assert [point.step for point in board.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert [point.value for point in board.Scalars("losses/mlm")][3:] == pytest.approx([0.5, 0.4])


def test_mlflow_keeps_one_run_for_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    place = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    mlflow.set_tracking_uri(place)
    draw("mlflow", tmp_path / "run", 0)
    draw("mlflow", tmp_path / "run", 3)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("curves")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "tiny out"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "losses/mlm")
    assert [(point.step, point.value) for point in history] == [
        (step, 2.0 / step) for step in range(1, 7)
    ]


def test_wandb_keeps_one_run_for_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    run.mkdir()
    draw("wandb", run, 0)
    draw("wandb", run, 3)
    identity = (run / "trackers" / "wandb-out.id").read_text()
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {file.stem for file in files} == {f"run-{identity}"}
    assert b"losses/mlm" in files[1].read_bytes()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_one_that_is_not_installed_is_refused_with_the_remedy(name: Any) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(RequestError, match=f"{name} is not installed; pip install {name}"):
        trackers.check(WatchRecipe(trackers=[name]))
