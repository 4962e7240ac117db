"""What a recipe says of watching: where the curves go, what is written down, what is tried."""

from typing import Literal

from pydantic import Field

from trawl.recipe import Recipe


class WatchRecipe(Recipe):
    """How a run is watched. No hash covers these keys: they change no result."""

    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = ["tensorboard"]
    """Where the curves go besides metrics.jsonl; wandb and mlflow must be installed, and take
    their servers and keys from their own settings."""
    project: str = "trawl"
    """Project of Weights & Biases, or experiment of MLflow."""
    checksum_steps: int = Field(default=100, ge=0)
    """Steps between two checksums over all parameters, which `trawl pretrain compare` reads; 0:
    none."""
    evaluate_steps: int = Field(default=0, ge=0)
    """Steps between two evaluations on `evaluation.corpus` while a stage trains; 0: none."""
    evaluate_samples: int = Field(default=256, ge=1)
    """Samples of such an evaluation, in micro-batches."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """Dense peak of one device in the stage's precision, in 10^12 operations a second, for MFU;
    nothing: known by the device's name, and no MFU where it is not."""
