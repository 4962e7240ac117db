"""Selection rules of per-class suppression."""

import pytest
import torch

from data_pipeline.detector.selection import (
    Conventions,
    SelectionRule,
    select,
    selection_rule,
)
from data_pipeline.detector.suppression import Suppression, suppress_by_loop
from trawl.errors import RequestError


def _scored(seed: int, count: int = 120, classes: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Crowded boxes with peaked class probabilities, as a detector gives them."""
    chance = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=chance) * 100
    boxes = torch.cat([corner, corner + 20 + torch.rand(count, 2, generator=chance) * 60], dim=1)
    logits = torch.randn(count, classes + 1, generator=chance) * 3
    return boxes, logits.softmax(dim=1)[:, 1:]


def _by_hand(boxes: torch.Tensor, scores: torch.Tensor, rule: SelectionRule) -> list[int]:
    """The published rule, step by step."""
    surviving = suppress_by_loop(boxes, scores, Suppression(rule.nms_overlap)).max(dim=1).values
    kept = [row for row in range(len(boxes)) if surviving[row] >= rule.threshold]
    ranked = surviving.argsort(descending=True, stable=True).tolist()
    if len(kept) < rule.minimum:
        return ranked[: rule.minimum]
    if len(kept) > rule.maximum:
        return ranked[: rule.maximum]
    return kept


@pytest.mark.parametrize("name", ["butd-10-100", "butd-36"])
@pytest.mark.parametrize("seed", range(3))
def test_published_rules_choose_what_they_say(name: str, seed: int) -> None:
    boxes, scores = _scored(seed)
    rule = selection_rule(name)
    for factor in (1.0, 0.3, 0.05):
        selected = select(boxes, scores * factor, rule)
        assert selected.rows.tolist() == _by_hand(boxes, scores * factor, rule)
        best = (scores * factor)[selected.rows].max(dim=1)
        assert torch.equal(selected.object_ids, best.indices)
        assert torch.equal(selected.confidences, best.values)


def test_never_more_than_there_are_and_never_fewer_than_the_minimum() -> None:
    boxes, scores = _scored(9, count=4)
    assert len(select(boxes, scores, selection_rule("butd-10-100")).rows) == 4
    boxes, scores = _scored(9, count=30)
    assert len(select(boxes, scores * 1e-3, selection_rule("butd-10-100")).rows) == 10


def test_the_surviving_class_is_reported_where_a_detector_asks_for_it() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    scores = torch.tensor([[0.7, 0.0], [0.6, 0.3]])
    conventions = Conventions(boxes="regressed", label="surviving", ranked=True)
    selected = select(boxes, scores, selection_rule("butd-10-100", conventions))
    assert selected.object_ids.tolist() == [0, 1]
    assert selected.confidences.tolist() == pytest.approx([0.7, 0.3])


def test_ranked_regions_come_best_first() -> None:
    boxes, scores = _scored(3)
    conventions = Conventions(boxes="regressed", label="surviving", ranked=True)
    confidences = select(boxes, scores, selection_rule("butd-10-100", conventions)).confidences
    assert torch.equal(confidences, confidences.sort(descending=True).values)


def test_an_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="butd-10-100"):
        selection_rule("butd-10")
