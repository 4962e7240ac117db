"""Exact fast suppression against the loop, in every family's convention."""

import pytest
import torch

from data_pipeline.detector.suppression import (
    Suppression,
    keep_best,
    suppress,
    suppress_by_loop,
    suppress_for,
)


def crowded(seed: int, count: int = 150, classes: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Crowded boxes with peaked class probabilities, as a detector gives them."""
    chance = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=chance) * 100
    boxes = torch.cat([corner, corner + 20 + torch.rand(count, 2, generator=chance) * 60], dim=1)
    logits = torch.randn(count, classes + 1, generator=chance) * 3
    return boxes, logits.softmax(dim=1)[:, 1:]


RULES = [Suppression(0.3), Suppression(0.5), Suppression(0.7), Suppression(0.3, 1.0, True)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_fast_equals_the_loop(seed: int, rule: Suppression) -> None:
    boxes, scores = crowded(seed, classes=12 if rule.extra else 40)
    loop = suppress_by_loop(boxes, scores, rule)
    assert torch.equal(suppress(boxes, scores, rule, 0.0), loop)
    for threshold in (0.2, 0.01):
        fast = suppress(boxes, scores, rule, threshold)
        assert torch.equal(fast, torch.where(loop >= threshold, loop, 0.0))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
def test_any_number_of_boxes_fits_the_bits(count: int) -> None:
    boxes, scores = crowded(count, count=count, classes=8)
    rule = Suppression(0.4)
    assert torch.equal(suppress(boxes, scores, rule, 0.0), suppress_by_loop(boxes, scores, rule))


def test_equal_scores_and_equal_boxes_keep_their_order() -> None:
    boxes, scores = crowded(5, count=60, classes=6)
    boxes, scores = boxes.round(decimals=-1), scores.round(decimals=1)
    rule = Suppression(0.5)
    assert torch.equal(suppress(boxes, scores, rule, 0.0), suppress_by_loop(boxes, scores, rule))


def test_caffe_counts_last_pixels_and_removes_at_the_threshold() -> None:
    # 10 x 10 pixels each, 5 x 10 shared: 50 / 150 by last pixels, 36 / 126 by plain sides.
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [5.0, 0.0, 14.0, 9.0]])
    scores = torch.tensor([[0.9], [0.8]])
    third = float(torch.tensor(50.0) / torch.tensor(150.0))
    for rule, survivors in [
        (Suppression(third, 1.0, True), 1),
        (Suppression(third, 1.0, False), 2),
        (Suppression(0.3, 1.0), 1),
        (Suppression(0.3, 0.0), 2),
    ]:
        assert int((suppress(boxes, scores, rule, 0.0) > 0).sum()) == survivors
        assert int((suppress_by_loop(boxes, scores, rule) > 0).sum()) == survivors
        assert len(keep_best(boxes, scores[:, 0], rule)) == survivors


def test_the_kept_of_one_suppression_come_by_falling_score() -> None:
    boxes, scores = crowded(2, classes=1)
    for rule in RULES:
        kept = keep_best(boxes, scores[:, 0], rule)
        loop = suppress_by_loop(boxes, scores, rule)[:, 0]
        assert sorted(kept.tolist()) == loop.nonzero().flatten().tolist()
        assert torch.equal(scores[kept, 0], scores[kept, 0].sort(descending=True).values)


@pytest.mark.parametrize("factor", [1.0, 0.1, 1e-3])
def test_lowered_thresholds_leave_the_best_boxes_exact(factor: float) -> None:
    boxes, scores = crowded(7)
    scores = scores * factor
    rule, wanted = Suppression(0.3), 36
    loop = suppress_by_loop(boxes, scores, rule).max(dim=1)
    fast = suppress_for(boxes, scores, rule, 0.2, wanted).max(dim=1)
    best = loop.values.argsort(descending=True, stable=True)[:wanted]
    assert torch.equal(fast.values.argsort(descending=True, stable=True)[:wanted], best)
    assert torch.equal(fast.values[best], loop.values[best])
    assert torch.equal(fast.indices[best], loop.indices[best])


def test_no_boxes_and_no_scores_are_no_error() -> None:
    rule = Suppression(0.3)
    assert suppress(torch.zeros(0, 4), torch.zeros(0, 5), rule, 0.2).shape == (0, 5)
    boxes, scores = crowded(1)
    assert not suppress(boxes, scores * 0.1, rule, 0.5).any()
