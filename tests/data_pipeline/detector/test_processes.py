"""Training on two real processes: the same images, equal weights, and what one would learn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from data_pipeline.detector.augmentation import TrainingBatch, TrainingBatches
from data_pipeline.detector.inference import load_detector
from data_pipeline.detector.losses import SamplingRule
from data_pipeline.detector.matching import Truth
from data_pipeline.detector.processes import ALONE, Share, start
from data_pipeline.detector.proposals import ProposalRule
from data_pipeline.detector.training import Trainer, TrainingSettings, train
from data_pipeline.regions_cli import regions
from tests.data_pipeline.detector.tiny_detector import TINY, PaintedExamples
from trawl.errors import RequestError, WorkError

# The last two of four steps with normalisation that stands still.
_SETTINGS = TrainingSettings(steps=4, batch=4, frozen_share=0.5, mosaic_share=0.5)

# Every anchor and region enters, of frozen statistics: no draw, and no image sees another.
WHOLE = TrainingSettings(
    steps=3,
    batch=2,
    frozen_share=1.0,
    bfloat16=False,
    sampling=SamplingRule(100_000, 100_000, 0, ProposalRule(before=1, after=1)),
)


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """All that must be the same in every process."""
    average = {f"average {name}": value for name, value in trainer.average.items()}
    return {**trainer.model.state_dict(), **trainer.guide.state_dict(), **average}


def _assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@dataclass(frozen=True)
class Killed:
    """A report that ends its process at a step, before the step is saved."""

    step: int

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        if step == self.step:
            raise WorkError("killed")


def _train(folder: Path, name: str, killed: int, share: Share) -> None:
    """Train in one of the processes and leave its state in the folder."""
    trainer = Trainer(TINY, _SETTINGS, share)
    report = Killed(killed)
    place = folder / f"{name}.checkpoint"
    source = PaintedExamples(6)
    train(trainer, source, place, workers=0, checkpoint_seconds=0.0, report=report)
    torch.save(state_of(trainer), folder / f"{name}-{share.rank}.pt")


@pytest.mark.slow
def test_processes_end_with_equal_weights_also_after_a_kill(tmp_path: Path) -> None:
    start(2, partial(_train, tmp_path, "whole", -1))
    first, second = (torch.load(tmp_path / f"whole-{rank}.pt") for rank in range(2))
    _assert_equal(first, second)
    alone = Trainer(TINY, _SETTINGS)
    assert not torch.equal(first["classifier.weight"], alone.model.classifier.weight)

    with pytest.raises(WorkError, match="killed"):
        start(2, partial(_train, tmp_path, "killed", 3))
    assert not (tmp_path / "killed-0.pt").exists()
    start(2, partial(_train, tmp_path, "killed", -1))
    for rank in range(2):
        _assert_equal(torch.load(tmp_path / f"killed-{rank}.pt"), first)
    with pytest.raises(RequestError, match="other settings"):
        train(alone, PaintedExamples(6), tmp_path / "whole.checkpoint", workers=0)


def two_images() -> TrainingBatch:
    """Two images whose objects lie at the same places, so that both count alike in the losses."""
    examples = [PaintedExamples(2)[index] for index in range(2)]
    truths = [
        Truth(
            torch.from_numpy(example.boxes),
            torch.from_numpy(example.object_ids) + 1,
            torch.from_numpy(example.attribute_ids) + 1,
        )
        for example in examples
    ]
    return TrainingBatch(torch.stack([torch.from_numpy(e.image) for e in examples]), truths)


def _learn(folder: Path, share: Share) -> None:
    """Take the steps on the process's rows of the two images."""
    trainer, whole = Trainer(TINY, WHOLE, share), two_images()
    rows = share.rows(len(whole.truths))
    batch = TrainingBatch(whole.pixels[rows], whole.truths[rows])
    losses = [trainer.learn(batch) for _ in range(WHOLE.steps)]
    torch.save((losses, state_of(trainer)), folder / f"{share.size}-{share.rank}.pt")


@pytest.mark.slow
def test_processes_learn_what_one_learns_from_the_whole_batch(tmp_path: Path) -> None:
    _learn(tmp_path, ALONE)
    start(2, partial(_learn, tmp_path))
    expected_losses, expected = torch.load(tmp_path / "1-0.pt")
    for rank in range(2):
        losses, state = torch.load(tmp_path / f"2-{rank}.pt")
        for step, named in enumerate(expected_losses):
            assert losses[step] == pytest.approx(named, rel=1e-3, abs=1e-4)
        before = state_of(Trainer(TINY, WHOLE))
        moved = torch.cat([(expected[n] - before[n]).flatten().float() for n in expected])
        apart = torch.cat([(expected[n] - state[n]).flatten().float() for n in expected])
        assert float(apart.norm()) < 1e-3 * float(moved.norm())


def test_a_batch_has_the_same_images_for_any_number_of_processes() -> None:
    source = PaintedExamples(6)
    for step in range(3):
        whole = TrainingBatches(source, 5, 4, 200, mosaic_steps=2)[step]
        for size in (2, 4):
            for rank in range(size):
                share = Share(rank, size)
                own = TrainingBatches(source, 5, 4, 200, 2, share)[step]
                assert torch.equal(own.pixels, whole.pixels[rank::size])
                for one, other in zip(own.truths, whole.truths[rank::size], strict=True):
                    assert torch.equal(one.boxes, other.boxes)


@pytest.mark.slow
def test_the_command_trains_on_two_processes(tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"
    arguments = ["--world", "0", "--scenes", "4", "--out", str(out), "--threads", "1"]
    arguments += ["--steps", "1", "--workers", "0", "--processes", "2"]
    refused = CliRunner().invoke(regions, ["train", *arguments, "--batch", "3"])
    assert isinstance(refused.exception, RequestError)
    assert "give a multiple of 2" in str(refused.exception)
    made = CliRunner().invoke(regions, ["train", *arguments, "--batch", "2"])
    assert made.exit_code == 0, made.output
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"small.safetensors", "small.json", "small.jsonl"}
    assert load_detector("demo", out).feature_size == 2048
    assert '"processes": 2' in out.with_suffix(".json").read_text()


def test_processes_are_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="leave the option out"):
        start(2, print)
