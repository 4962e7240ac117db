"""The published rules of selection against what the originals do, step by step."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from data_pipeline.detector.c4_config import family_config
from data_pipeline.detector.c4_selection import (
    C4_SELECTIONS,
    best_class_boxes,
    c4_selection,
    choose,
)
from data_pipeline.detector.selection import Selected
from data_pipeline.detector.suppression import Suppression, suppress_by_loop
from tests.data_pipeline.detector.test_suppression import crowded
from trawl.errors import RequestError

BUTD = family_config("butd").boxes
PLAIN = family_config("vinvl").boxes


def chosen(name: str, boxes: Tensor, scores: Tensor, convention: object = PLAIN) -> Selected:
    return choose(boxes, scores, c4_selection(name), convention)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1.0, 0.3, 0.02])
@pytest.mark.parametrize("name", ["butd-10-100", "butd-36"])
def test_bottom_up_attention(name: str, factor: float) -> None:
    boxes, scores = crowded(3, count=80, classes=12)
    scores = scores * factor
    least, most = (36, 36) if name == "butd-36" else (10, 100)
    surviving = suppress_by_loop(boxes, scores, Suppression(0.3, 1.0, True)).max(dim=1).values
    rows = (surviving >= 0.2).nonzero().flatten()
    if not least <= len(rows) <= most:
        ranked = surviving.argsort(descending=True, stable=True)
        rows = ranked[: least if len(rows) < least else most]
    selected = chosen(name, boxes, scores, BUTD)
    assert torch.equal(selected.rows, rows)
    assert torch.equal(selected.object_ids, scores[rows].argmax(dim=1))
    assert torch.equal(selected.confidences, scores[rows].max(dim=1).values)


def test_filter_1_sorts_and_reports_the_surviving_class() -> None:
    boxes, scores = crowded(4, count=80)
    surviving = suppress_by_loop(boxes, scores, Suppression(0.3))
    values, classes = surviving.max(dim=1)
    count = min(max(int((values >= 0.2).sum()), 10), 100)
    rows = values.argsort(descending=True, stable=True)[:count]
    selected = chosen("vinvl-filter1", boxes, scores)
    assert torch.equal(selected.rows, rows)
    assert torch.equal(selected.object_ids, classes[rows])
    assert torch.equal(selected.confidences, values[rows])
    assert not torch.equal(selected.object_ids, scores[rows].argmax(dim=1))


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.01])
def test_filter_2_suppresses_once(factor: float) -> None:
    boxes, scores = crowded(6, count=120)
    scores = scores * factor
    values, classes = scores.max(dim=1)
    entered = (values > 0.002).nonzero().flatten()
    rows = entered[nms(boxes[entered], values[entered], 0.5)]
    rows = rows[: min(max(int((values[rows] >= 0.2).sum()), 10), 100)]
    selected = chosen("vinvl-filter2", boxes, scores)
    assert torch.equal(selected.rows, rows)
    assert torch.equal(selected.object_ids, classes[rows])
    assert torch.equal(selected.confidences, values[rows])


@pytest.mark.parametrize("name", ["fork-36", "frcnn-36"])
def test_overlap_rises_until_36_boxes_are_left(name: str) -> None:
    boxes, scores = crowded(8, count=70)
    values = scores.max(dim=1).values
    counts = [len(nms(boxes, values, overlap)) for overlap in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    assert counts[0] < 36 <= counts[-1]
    overlap = 0.3 + 0.1 * next(place for place, count in enumerate(counts) if count >= 36)
    expected = nms(boxes, values, round(overlap, 1))[:36]
    assert torch.equal(chosen(name, boxes, scores).rows, expected)


@pytest.mark.parametrize("name", C4_SELECTIONS)
def test_few_boxes_give_few_regions_and_no_more_than_the_maximum(name: str) -> None:
    boxes, scores = crowded(9, count=5)
    assert 1 <= len(chosen(name, boxes, scores).rows) <= 5
    far = torch.arange(200.0)[:, None] * 1000 + boxes[:1]
    rule = c4_selection(name)
    assert len(chosen(name, far, torch.full((200, 4), 0.2)).rows) == rule.maximum


def test_the_box_is_that_of_the_best_class() -> None:
    regressed = torch.arange(24.0).view(2, 3, 4)
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    assert best_class_boxes(regressed, scores).tolist() == [[4, 5, 6, 7], [12, 13, 14, 15]]


def test_the_convention_decides_what_overlaps() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [5.0, 0.0, 14.0, 9.0]] + [[90.0, 0, 99, 9]] * 9)
    scores = torch.full((11, 1), 0.5)
    rule = replace(c4_selection("butd-10-100"), minimum=0)  # type: ignore[type-var]
    assert choose(boxes, scores, rule, PLAIN).rows.tolist() == [0, 1, 2]
    assert choose(boxes, scores, rule, BUTD).rows.tolist() == [0, 2]


def test_an_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="vinvl-filter2"):
        c4_selection("vinvl")
