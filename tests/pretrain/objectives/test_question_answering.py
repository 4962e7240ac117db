"""Question answering by hand: one answer, and soft scores."""

import math

import pytest
import torch

from pretrain.objectives import question_answering

LOGITS = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])


def test_rows_without_an_answer_do_not_count() -> None:
    by_hand = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2
    loss = question_answering.loss(LOGITS, torch.tensor([0, -1, 0]))
    assert float(loss) == pytest.approx(by_hand, rel=1e-6)


def test_a_batch_without_questions_costs_nothing_and_moves_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = question_answering.loss(logits, torch.tensor([-1, -1, -1]))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_soft_scores_are_the_published_mean_times_the_answers() -> None:
    scores = torch.tensor([[1.0, 0.3], [0.0, 0.6], [0.0, 0.0]])
    chance = LOGITS.sigmoid()
    each = -(scores * chance.log() + (1 - scores) * (1 - chance).log())
    loss = question_answering.soft_loss(LOGITS, scores)
    assert float(loss) == pytest.approx(float(each.mean() * 2), rel=1e-6)
