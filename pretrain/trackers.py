"""Where curves go: TensorBoard files, Weights & Biases, MLflow. Each is imported when asked for."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from pretrain.watch_recipe import WatchRecipe
from trawl import storage
from trawl.errors import RequestError

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


class Tracker(Protocol):
    """One place where the curves of a stage go."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Take in what a step measured."""

    def sync(self) -> None:
        """Bring what was written to where a kill of this process does not reach it."""

    def close(self) -> None:
        """End the stage."""


@dataclass(frozen=True)
class Place:
    """Which curves these are: of a stage of a run that begins at `start`."""

    run: Path
    name: str
    stage: str
    start: int


def check(watch: WatchRecipe) -> None:
    """Raise RequestError for a tracker that is not installed."""
    for name in watch.trackers:
        if find_spec(_PACKAGES[name]) is None:
            raise RequestError(
                f"watch.trackers: {name} is not installed; pip install {_PACKAGES[name]}, or take "
                "it out"
            )


def opened(watch: WatchRecipe, place: Place) -> Sequence[Tracker]:
    """Return the trackers that the recipe asks for."""
    made: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}
    return [made[name](watch.project, place) for name in watch.trackers]


class TensorBoard:
    """Files in RUN/tensorboard/STAGE; what a resume does again is purged from them."""

    def __init__(self, project: str, place: Place) -> None:
        # Its writer takes a second to import.
        from torch.utils.tensorboard import SummaryWriter

        # A folder for each stage: what is purged on a resume is purged in the whole folder.
        folder = place.run / "tensorboard" / place.stage
        self._board = SummaryWriter(str(folder), purge_step=place.start + 1, flush_secs=30)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Draw a point of each curve."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def sync(self) -> None:
        """Flush the file."""
        self._board.flush()

    def close(self) -> None:
        """Close the file."""
        self._board.close()


class WandB:
    """A run of Weights & Biases for each stage, gone on with after a restart."""

    def __init__(self, project: str, place: Place) -> None:
        import wandb

        self._run = wandb.init(
            project=project,
            name=f"{place.name} {place.stage}",
            id=_identity(place, "wandb", lambda: secrets.token_hex(8)),
            resume="allow",
            dir=str(place.run),
        )

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step; steps that a restart does again are passed over by W&B."""
        self._run.log(dict(values), step=step)

    def sync(self) -> None:
        """Nothing: a process of its own sends what was logged."""

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow:
    """A run of MLflow for each stage, gone on with after a restart."""

    def __init__(self, project: str, place: Place) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(project)
        experiment = found.experiment_id if found else self._client.create_experiment(project)

        def begin() -> str:
            run = self._client.create_run(experiment, run_name=f"{place.name} {place.stage}")
            return str(run.info.run_id)

        self._run = _identity(place, "mlflow", begin)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def sync(self) -> None:
        """Nothing: each step is sent when it is written."""

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


def _identity(place: Place, tracker: str, make: Callable[[], str]) -> str:
    """Return the id under which `tracker` knows the stage, made once and kept in the run."""
    path = place.run / "trackers" / f"{tracker}-{place.stage}.id"
    if not path.exists():
        storage.write_text(path, make())
    return path.read_text(encoding="utf-8").strip()
