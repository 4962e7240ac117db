"""Targets, batches and the training loop, on painted images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.detector.augmentation import TrainingBatches, close_view, place
from data_pipeline.detector.matching import (
    Truth,
    label_anchors,
    label_cells,
    sample_labels,
    sample_regions,
)
from data_pipeline.detector.training import Trainer, TrainingSettings, rate_share, train
from tests.data_pipeline.detector.tiny_detector import TINY, PaintedExamples
from trawl.chance import generator
from trawl.errors import RequestError, WorkError

_TRUTH = Truth(
    torch.tensor([[10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 70.0, 100.0]]),
    torch.tensor([1, 2]),
    torch.tensor([2, 0]),
)


def test_anchors_learn_the_object_that_they_overlap() -> None:
    anchors = torch.tensor(
        [
            [10.0, 10.0, 50.0, 50.0],  # the first object
            [10.0, 10.0, 50.0, 29.0],  # too little of it, too much for background
            [80.0, 10.0, 90.0, 20.0],  # nothing
            [56.0, 60.0, 76.0, 100.0],  # the best for the second object
        ]
    )
    labels, nearest = label_anchors(anchors, _TRUTH.boxes)
    assert labels.tolist() == [1, -1, 0, 1]
    assert nearest[[0, 3]].tolist() == [0, 1]
    assert label_anchors(anchors, torch.zeros(0, 4))[0].tolist() == [0, 0, 0, 0]


def test_samples_hold_at_most_the_share_of_positives() -> None:
    labels = torch.tensor([1] * 50 + [0] * 50 + [-1] * 50)
    chosen = sample_labels(labels, 20, 0.5, generator("sample"))
    assert sorted(labels[chosen].tolist()) == [0] * 10 + [1] * 10
    few = sample_labels(torch.tensor([1, 0, -1]), 20, 0.5, generator("sample"))
    assert sorted(few.tolist()) == [0, 1]


def test_regions_are_given_class_attribute_and_target_of_their_object() -> None:
    proposals = torch.tensor([[12.0, 10.0, 50.0, 50.0], [80.0, 0.0, 99.0, 20.0]])
    sample = sample_regions(proposals, _TRUTH, 32, copies=2, rng=generator("regions"))
    assert set(sample.classes.tolist()) == {0, 1, 2}
    first = sample.classes == 1
    assert (sample.attributes[first] == 2).all()
    assert (sample.targets[first] == _TRUTH.boxes[0]).all()
    background = sample.classes == 0
    assert torch.equal(sample.targets[background], sample.boxes[background])


def test_an_image_without_objects_teaches_background() -> None:
    nothing = Truth(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long())
    sample = sample_regions(torch.rand(5, 4), nothing, 8, copies=2, rng=generator("none"))
    assert sample.classes.tolist() == [0] * len(sample.boxes)


def test_cells_are_labelled_in_the_middle_and_ignored_at_the_border() -> None:
    boxes = torch.tensor([[8.0, 8.0, 88.0, 88.0], [40.0, 40.0, 64.0, 64.0]])
    truth = Truth(boxes, torch.tensor([1, 2]), torch.tensor([0, 0]))
    labels = label_cells(truth, rows=12, columns=12, stride=8)
    assert labels[0, 0] == 0
    assert labels[1, 1] == -1
    assert labels[4, 4] == 1
    assert labels[6, 6] == 2  # the smaller object lies in front


@pytest.mark.parametrize("draw", [place, close_view])
def test_boxes_move_with_the_pixels(draw) -> None:  # type: ignore[no-untyped-def]
    example = PaintedExamples(1)[0]
    for index in range(20):
        image, truth = draw(example, (224, 256), 200, generator("draw", index))
        assert image.shape == (224, 256, 3)
        for box, attribute in zip(truth.boxes.numpy(), truth.attributes.tolist(), strict=True):
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            colour = image[min(y, 223), min(x, 255)].astype(int)
            assert (colour[0] > colour[2]) == (attribute == 1)


def test_batches_are_functions_of_the_step() -> None:
    source = PaintedExamples(6)
    first = TrainingBatches(source, 5, 4, 200, mosaic_steps=2)
    second = TrainingBatches(source, 5, 4, 200, mosaic_steps=2)
    for step in (3, 0, 1):
        assert torch.equal(first[step].pixels, second[step].pixels)
        assert torch.equal(first[step].truths[2].boxes, second[step].truths[2].boxes)
    assert first[0].pixels.shape[0] == 4
    assert not torch.equal(first[2].pixels[0, :32, :32], first[3].pixels[0, :32, :32])


def test_the_rate_rises_then_falls_to_zero() -> None:
    settings = TrainingSettings(steps=100, warmup_share=0.1)
    shares = [rate_share(step, settings) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == pytest.approx(1.0)
    assert shares[-1] < 0.01
    assert (np.diff(shares[10:]) < 0).all()


def test_losses_fall_on_two_images() -> None:
    settings = TrainingSettings(steps=80, batch=2, learning_rate=3e-3, mosaic_share=0.0)
    trainer = Trainer(TINY, settings)
    batches = TrainingBatches(PaintedExamples(2), 0, 2, 224, mosaic_steps=0)
    totals = [sum(trainer.learn(batches[0]).values()) for _ in range(80)]
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    settings = TrainingSettings(steps=6, batch=2)
    source = PaintedExamples(4)
    whole = train(Trainer(TINY, settings), source, tmp_path / "whole", workers=0)

    def kill(step: int, losses: dict[str, float]) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            Trainer(TINY, settings),
            source,
            tmp_path / "killed",
            workers=0,
            checkpoint_seconds=0.0,
            report=kill,
        )
    assert (tmp_path / "killed").exists()
    resumed = train(Trainer(TINY, settings), source, tmp_path / "killed", workers=0)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_loss_that_is_not_a_number_ends_training() -> None:
    trainer = Trainer(TINY, TrainingSettings(steps=6, batch=2))
    batch = TrainingBatches(PaintedExamples(2), 0, 2, 224, mosaic_steps=0)[0]
    with torch.no_grad():
        trainer.model.classifier.weight.fill_(float("nan"))
    with pytest.raises(WorkError, match="learning-rate"):
        trainer.learn(batch)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(TINY, TrainingSettings(steps=6))
    trainer.save(tmp_path / "state")
    with pytest.raises(RequestError, match="other settings"):
        Trainer(TINY, TrainingSettings(steps=7)).restore(tmp_path / "state")
    (tmp_path / "state").write_bytes(b"half a file")
    with pytest.raises(RequestError, match="remove it"):
        trainer.restore(tmp_path / "state")
