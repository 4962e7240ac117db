"""Each loss by hand, their polarity, and their weighted sum."""

import math

import pytest
import torch

from pretrain import objectives
from pretrain.models.oscar_config import OscarConfig
from pretrain.objectives import masked_tokens, matching, tag_contrast
from trawl.errors import RequestError


def test_masked_tokens_are_averaged_over_those_that_count() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    labels = torch.tensor([0, 1, -1])
    by_hand = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert float(masked_tokens.loss(logits, labels)) == pytest.approx(by_hand, rel=1e-6)
    square = masked_tokens.loss(logits[None], labels[None])
    assert float(square) == pytest.approx(by_hand, rel=1e-6)


def test_a_batch_without_masked_tokens_costs_nothing_and_can_be_learned_from() -> None:
    logits = torch.zeros(0, 7, requires_grad=True)
    loss = masked_tokens.loss(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_clean_pairs_are_class_zero_of_the_contrast() -> None:
    sure_of_clean = torch.tensor([[9.0, 0.0, 0.0]])
    assert float(tag_contrast.loss(sure_of_clean, torch.tensor([0]))) < 0.01
    assert float(tag_contrast.loss(sure_of_clean, torch.tensor([2]))) > 8


def test_clean_scores_weigh_clean_against_another_caption() -> None:
    two_way = tag_contrast.clean_scores(torch.tensor([[3.0, 1.0]]))
    three_way = tag_contrast.clean_scores(torch.tensor([[3.0, 50.0, 2.0]]))
    assert (two_way.tolist(), three_way.tolist()) == ([2.0], [1.0])


def test_matching_pairs_are_class_one() -> None:
    sure_of_match = torch.tensor([[0.0, 9.0]])
    assert float(matching.loss(sure_of_match, torch.tensor([1]))) < 0.01
    assert float(matching.loss(sure_of_match, torch.tensor([0]))) > 8


def test_the_total_is_the_weighted_sum() -> None:
    outputs = {
        "prediction_logits": torch.randn(4, 9, requires_grad=True),
        "seq_relationship_logits": torch.randn(2, 3, requires_grad=True),
    }
    batch = {"masked_labels": torch.tensor([1, 2, 3, 4]), "contrast_labels": torch.tensor([0, 2])}
    total, losses = objectives.compute(outputs, batch, {"mlm": 2.0, "contrast": 0.5})
    expected = 2 * losses["mlm"] + 0.5 * losses["contrast"]
    assert float(total.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert not losses["mlm"].requires_grad
    total.backward()
    assert outputs["seq_relationship_logits"].grad is not None
    alone, named = objectives.compute(outputs, batch, {"contrast": 1.0})
    assert list(named) == ["contrast"]
    assert torch.equal(alone.detach(), named["contrast"])


def test_unknown_objectives_and_missing_heads_are_refused() -> None:
    with pytest.raises(RequestError, match="unknown key moc"):
        objectives.check_objectives({"moc": 1.0}, OscarConfig())
    with pytest.raises(RequestError, match="itm needs a head"):
        objectives.check_objectives({"itm": 1.0}, OscarConfig())
    objectives.check_objectives({"itm": 1.0, "mlm": 1.0}, OscarConfig(match_head=True))
