"""Matching in its three forms, by hand."""

import math

import pytest
import torch

from pretrain.objectives import matching


def test_one_logit_is_the_log_odds_of_label_one() -> None:
    logits = torch.tensor([[2.0], [-1.0], [0.5]])
    labels = torch.tensor([1, 0, 0])
    by_hand = (
        math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(0.5))
    ) / 3
    assert float(matching.loss(logits, labels)) == pytest.approx(by_hand, rel=1e-6)
    # Two logits of which one stays 0 say the same.
    both = torch.cat([torch.zeros(3, 1), logits], dim=1)
    assert float(matching.loss(both, labels)) == pytest.approx(by_hand, rel=1e-6)


def test_the_polarity_is_the_labels() -> None:
    logits = torch.tensor([[3.0, -1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1])
    turned = matching.loss(logits.flip(1), 1 - labels)
    assert float(matching.loss(logits, labels)) == pytest.approx(float(turned))


def test_the_first_third_of_the_hard_pairs_belongs_together() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 3.0], *[[2.0, 0.0]] * 4])
    by_hand = math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(-3.0))
    by_hand += 4 * math.log(1 + math.exp(-2.0))
    assert float(matching.hard_loss(logits)) == pytest.approx(by_hand / 6, rel=1e-6)
