"""Object classification against formulae written out anew."""

import math

import pytest
import torch

from pretrain.objectives import object_classification as moc

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
COSTS = [
    math.log(math.exp(2) + 2) - 2,
    math.log(math.e + 2),
    math.log(3),
]
"""Of each row, the cost of classes 0, 2 and 1."""
LABELS = torch.tensor([0, 2, 1])


def test_hard_labels_are_averaged_over_those_that_count() -> None:
    assert float(moc.loss(LOGITS, LABELS)) == pytest.approx(sum(COSTS) / 3, rel=1e-6)
    ignored = torch.tensor([0, -1, 1])
    assert float(moc.loss(LOGITS, ignored)) == pytest.approx((COSTS[0] + COSTS[2]) / 2, rel=1e-6)


def test_confidence_weighs_and_the_normaliser_divides() -> None:
    weights = torch.tensor([0.5, 0.25, 0.9])
    normaliser = torch.tensor(2 * 36 * 0.15)
    by_hand = (0.5 * COSTS[0] + 0.25 * COSTS[1] + 0.9 * COSTS[2]) / 10.8
    loss = moc.confidence_loss(LOGITS, LABELS, weights, normaliser)
    assert float(loss) == pytest.approx(by_hand, rel=1e-6)
    labels = torch.tensor([0, 2, -1])
    without_the_last = moc.confidence_loss(LOGITS, labels, weights, normaliser)
    by_hand = (0.5 * COSTS[0] + 0.25 * COSTS[1]) / 10.8
    assert float(without_the_last) == pytest.approx(by_hand, rel=1e-6)


def test_the_weighted_form_is_lxmerts_mean_over_all_regions() -> None:
    generator = torch.Generator().manual_seed(1)
    batch, regions, classes = 2, 36, 11
    logits = torch.randn(batch, regions, classes, generator=generator)
    labels = torch.randint(classes, (batch, regions), generator=generator)
    confidence = torch.rand(batch, regions, generator=generator)
    logs = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    published = -(logs * confidence).mean() / 0.15
    loss = moc.confidence_loss(
        logits.flatten(0, 1), labels.flatten(), confidence.flatten(), torch.tensor(72 * 0.15)
    )
    assert float(loss) == pytest.approx(float(published), rel=1e-6)


def test_the_divergence_from_a_distribution() -> None:
    target = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    by_hand = sum(
        p * (math.log(p) - float(q))
        for row, logs in zip(target.tolist(), LOGITS.log_softmax(-1), strict=True)
        for p, q in zip(row, logs, strict=True)
        if p > 0
    )
    loss = moc.distribution_loss(LOGITS, target)
    assert float(loss) == pytest.approx(by_hand / 3, rel=1e-6)
    same = moc.distribution_loss(LOGITS, LOGITS.softmax(-1))
    assert float(same) == pytest.approx(0.0, abs=1e-6)
