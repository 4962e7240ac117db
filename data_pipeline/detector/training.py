"""Training of the demo detector: one loop, resumable, with averaged weights as its product."""

from __future__ import annotations

import math
import pickle
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data_pipeline.detector.architecture import ArchitectureConfig, FasterRcnn, GuideHead
from data_pipeline.detector.augmentation import TrainingBatch, TrainingBatches, use_one_thread
from data_pipeline.detector.examples import ExampleSource
from data_pipeline.detector.losses import SamplingRule, training_losses
from data_pipeline.detector.preprocessing import normalise
from data_pipeline.detector.processes import ALONE, Share
from trawl import storage
from trawl.chance import generator, seed_of
from trawl.errors import RequestError, WorkError

_WIDE = 1024
_WIDE_SHARE = 0.1


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run is made of; a checkpoint resumes only under the same settings."""

    steps: int
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.03
    warmup_share: float = 0.05
    frozen_share: float = 0.2
    mosaic_share: float = 0.7
    average_decay: float = 0.998
    gradient_limit: float = 5.0
    short_side: int = 224
    seed: int = 0
    bfloat16: bool = True
    sampling: SamplingRule = field(default_factory=SamplingRule)


class Trainer:
    """The state of a training run: the network, its average, the optimiser and the step.

    Of several processes each has one, with its `share`; all hold the same state after every step.
    Weights are drawn on the CPU and then moved to the share's device.
    """

    def __init__(
        self, config: ArchitectureConfig, settings: TrainingSettings, share: Share = ALONE
    ) -> None:
        self.settings, self.share = settings, share
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(settings.seed, "detector weights"))
            model, guide = FasterRcnn(config), GuideHead(config)
        self.model = model.to(share.device).to(memory_format=torch.channels_last)
        self.guide = guide.to(share.device)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(nn.ModuleList([self.model, self.guide]), settings.weight_decay),
            lr=settings.learning_rate,
        )
        self.step = 0
        self.seconds = 0.0

    def learn(self, batch: TrainingBatch) -> dict[str, float]:
        """Take one step on one batch, or on this process's share of it; returns the losses."""
        losses = self.backward(batch)
        self.share.average([p.grad for p in self._parameters() if p.grad is not None])
        self.update()
        return losses

    def backward(self, batch: TrainingBatch) -> dict[str, float]:
        """Compute this process's gradients on its own images; returns the losses of all processes.

        Each process draws its own sampling, and its normalisation sees its own images alone.
        WorkError if the loss of one process is not a number.
        """
        settings, device = self.settings, self.share.device
        self._set_mode()
        share = rate_share(self.step, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = group["share"] * settings.learning_rate * share
        pixels = normalise(batch.pixels.to(device)).contiguous(memory_format=torch.channels_last)
        truths = [truth.to(device) for truth in batch.truths]
        process = () if self.share.size == 1 else (self.share.rank, self.share.size)
        chance = generator(settings.seed, "detector sampling", self.step, *process)
        with torch.autocast(device.type, torch.bfloat16) if settings.bfloat16 else nullcontext():
            losses = training_losses(
                self.model, self.guide, pixels, truths, settings.sampling, chance
            )
        each = torch.stack(list(losses.values()))
        shared = each.detach().clone()
        self.share.average([shared])
        if not torch.isfinite(shared.sum()):
            raise WorkError(
                f"detector training: the loss of step {self.step} is not a number; "
                "lower --learning-rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        each.sum().backward()
        return {name: float(loss) for name, loss in zip(losses, shared, strict=True)}

    def update(self) -> None:
        """Make the step that the gradients ask for; the same in all processes."""
        settings = self.settings
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_limit)
        self.optimizer.step()
        self.step += 1
        self.share.average([b for b in self.model.buffers() if b.is_floating_point()])
        self._update_average()

    def averaged_model(self) -> FasterRcnn:
        """A copy of the network with the averaged weights."""
        model = FasterRcnn(self.model.config)
        model.load_state_dict(self.average)
        return model

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on; the file appears when it is whole."""
        with storage.open_atomic(path) as file:
            torch.save(
                {
                    "settings": self._made_with(),
                    "model": self.model.state_dict(),
                    "guide": self.guide.state_dict(),
                    "average": self.average,
                    "optimizer": self.optimizer.state_dict(),
                    "step": self.step,
                    "seconds": self.seconds,
                },
                file,
            )

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint; RequestError when other settings made it."""
        if not zipfile.is_zipfile(path):
            raise RequestError(f"{path}: not a checkpoint; remove it to start over")
        try:
            state: dict[str, Any] = torch.load(
                path, map_location=self.share.device, weights_only=True
            )
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise RequestError(f"{path}: not a checkpoint; remove it to start over") from error
        if state["settings"] != self._made_with():
            raise RequestError(
                f"{path}: made with other settings; remove it or repeat the command that made it"
            )
        self.model.load_state_dict(state["model"])
        self.guide.load_state_dict(state["guide"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _made_with(self) -> str:
        """Describe all that the weights depend on: also the number of processes and the device."""
        made: tuple[Any, ...] = (self.model.config, self.settings)
        if self.share.size > 1:
            made = (*made, self.share.size)
        if self.share.device.type != "cpu":
            made = (*made, self.share.device.type)
        return repr(made)

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.guide.parameters()]

    def _set_mode(self) -> None:
        """Train; over the last share of the steps the normalisation's statistics stand still."""
        self.model.train()
        if self.step >= self.settings.steps * (1 - self.settings.frozen_share):
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.average_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Kernels and matrices decay, vectors do not; layers that read a wide feature learn slower.

    AdamW moves every weight by about the rate, so a sum over 2048 inputs moves 2048 rates at once.
    """
    parameters = list(model.parameters())
    wide = [p for p in parameters if p.ndim == 2 and p.shape[1] >= _WIDE]
    kernels = [p for p in parameters if p.ndim > 1 and not (p.ndim == 2 and p.shape[1] >= _WIDE)]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": kernels, "weight_decay": weight_decay, "share": 1.0},
        {"params": wide, "weight_decay": weight_decay, "share": _WIDE_SHARE},
        {"params": vectors, "weight_decay": 0.0, "share": 1.0},
    ]


def rate_share(step: int, settings: TrainingSettings) -> float:
    """Share of the learning rate at a step: linear warm-up, then half a cosine to zero."""
    warmup = max(1, int(settings.steps * settings.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, settings.steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def batches_from(
    source: ExampleSource,
    settings: TrainingSettings,
    first: int,
    workers: int,
    share: Share = ALONE,
) -> Iterator[TrainingBatch]:
    """Batches of the steps from `first` on, made by worker processes in order (0: in this one)."""
    mosaic_steps = int(settings.steps * settings.mosaic_share)
    dataset = TrainingBatches(
        source, settings.seed, settings.batch, settings.short_side, mosaic_steps, share
    )
    loader: DataLoader[TrainingBatch] = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first, settings.steps),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
        worker_init_fn=use_one_thread,
    )
    return iter(loader)


def train(
    trainer: Trainer,
    source: ExampleSource,
    checkpoint: Path,
    *,
    workers: int = 1,
    checkpoint_seconds: float = 120.0,
    report: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> FasterRcnn:
    """Run the remaining steps, keeping a checkpoint; returns the averaged network.

    The same call after a kill continues where the checkpoint stands and ends with the same
    weights, since batches and sampling are functions of the step. Of several processes the first
    one saves; RequestError if they do not find the same checkpoint.
    """
    if checkpoint.exists():
        trainer.restore(checkpoint)
    _check_one_step(trainer, checkpoint)
    started, before = time.monotonic(), trainer.seconds
    saved = started
    for batch in batches_from(source, trainer.settings, trainer.step, workers, trainer.share):
        losses = trainer.learn(batch)
        trainer.seconds = before + time.monotonic() - started
        report(trainer.step, losses)
        if trainer.share.first and time.monotonic() - saved > checkpoint_seconds:
            trainer.save(checkpoint)
            saved = time.monotonic()
    if trainer.share.first:
        trainer.save(checkpoint)
    return trainer.averaged_model()


def _check_one_step(trainer: Trainer, checkpoint: Path) -> None:
    """Wait until all processes have read the checkpoint; all must stand at the same step."""
    step, device = float(trainer.step), trainer.share.device
    place = torch.tensor([step, step**2], dtype=torch.float64, device=device)
    trainer.share.average([place])
    if place[1] != place[0] ** 2:
        raise RequestError(
            f"{checkpoint}: the processes do not see the same checkpoint; give --out a folder "
            "that all of them share"
        )


def total_parameters(model: nn.Module) -> int:
    """Number of learned values."""
    parameters: list[Tensor] = list(model.parameters())
    return sum(p.numel() for p in parameters)
