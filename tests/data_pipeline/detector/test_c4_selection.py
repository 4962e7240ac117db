"""The published rules of selection against what the originals do, step by step."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from data_pipeline.detector.c4_config import family_config
from data_pipeline.detector.c4_plain import PlainC4
from data_pipeline.detector.c4_selection import (
    C4_SELECTIONS,
    PairRule,
    best_class_boxes,
    c4_selection,
    choose,
)
from data_pipeline.detector.selection import Selected, SelectionRule
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


def retried(attempt: Callable[[float], Selected], least: int) -> Selected:
    """What scene_graph_benchmark does with too few regions: half the threshold, ten times."""
    threshold, found = 0.2, attempt(0.2)
    for _ in range(10):
        if len(found.rows) >= least:
            break
        threshold /= 2
        found = attempt(threshold)
    return found


def assert_equal(found: Selected, expected: Selected) -> None:
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.object_ids, expected.object_ids)
    assert torch.equal(found.confidences, expected.confidences)


@pytest.mark.parametrize("factor", [1.0, 0.3, 0.02])
@pytest.mark.parametrize(("count", "classes", "spread"), [(80, 40, 1.0), (25, 6, 0.01)])
def test_filter_1_sorts_and_reports_the_surviving_class(
    factor: float, count: int, classes: int, spread: float
) -> None:
    boxes, scores = crowded(4, count=count, classes=classes)
    middle = boxes.mean(dim=0)
    boxes, scores = middle + spread * (boxes - middle), scores * factor
    surviving = suppress_by_loop(boxes, scores, Suppression(0.3))
    values, labels = surviving.max(dim=1)

    def attempt(threshold: float) -> Selected:
        rows = values.argsort(descending=True, stable=True)
        rows = rows[values[rows] > 0]
        number = min(max(int((values >= threshold).sum()), 10), 100)
        return Selected(rows[:number], labels[rows[:number]], values[rows[:number]])

    selected = chosen("vinvl-filter1", boxes, scores)
    assert_equal(selected, retried(attempt, 10))
    if factor == spread == 1:
        assert not torch.equal(selected.object_ids, scores[selected.rows].argmax(dim=1))
    assert (len(selected.rows) < 10) == (spread < 1)


@pytest.mark.parametrize("factor", [1.0, 0.3, 0.02, 0.002, 1e-5])
@pytest.mark.parametrize("count", [8, 120])
def test_filter_0_halves_its_threshold_until_ten_pairs_are_left(factor: float, count: int) -> None:
    boxes, scores = crowded(5, count=count, classes=6)
    scores = (scores * factor).round(decimals=5)

    def attempt(threshold: float) -> Selected:
        parts: list[tuple[int, int, float]] = []
        for label in range(scores.shape[1]):
            entered = (scores[:, label] > threshold).nonzero().flatten()
            kept = entered[nms(boxes[entered], scores[entered, label], 0.5)]
            parts += [(int(row), label, float(scores[row, label])) for row in kept]
        if len(parts) > 100:
            worst = sorted(score for _, _, score in parts)[len(parts) - 100]
            parts = [part for part in parts if part[2] >= worst]
        rows, labels, values = zip(*parts, strict=True) if parts else ((), (), ())
        return Selected(
            torch.tensor(rows, dtype=torch.int64),
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor(values, dtype=torch.float32),
        )

    selected = chosen("vinvl-filter0", boxes, scores)
    assert_equal(selected, retried(attempt, 10))
    assert (len(selected.rows) == 0) == (factor == 1e-5)
    if factor == 0.02 and count == 120:
        assert len(attempt(0.2).rows) < 10 <= len(selected.rows)


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
    most = scores.numel() if name == "vinvl-filter0" else 5  # pairs of box and class
    assert 1 <= len(chosen(name, boxes, scores).rows) <= most
    far = torch.arange(200.0)[:, None] * 1000 + boxes[:1]
    rule = c4_selection(name)
    scores = 0.2 + 0.001 * torch.rand(200, 4, generator=torch.Generator().manual_seed(1))
    assert len(chosen(name, far, scores).rows) == rule.maximum


def test_the_box_is_that_of_the_best_class() -> None:
    regressed = torch.arange(24.0).view(2, 3, 4)
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    assert best_class_boxes(regressed, scores).tolist() == [[4, 5, 6, 7], [12, 13, 14, 15]]


@pytest.mark.parametrize("name", ["butd-10-100", "butd-36", "vinvl-filter0", "vinvl-filter1"])
def test_equal_scores_keep_the_order_of_the_boxes_in_both_paths(name: str) -> None:
    plain = PlainC4.__new__(PlainC4)  # the rules need no network
    plain.config = family_config("vinvl")
    rule = c4_selection(name)
    for seed in range(3):
        boxes, scores = crowded(seed, count=60, classes=5)
        boxes, scores = boxes.round(decimals=-1), scores.round(decimals=1)
        if isinstance(rule, PairRule):
            expected = plain._pairs_by_loop(boxes, scores, rule)
        else:
            assert isinstance(rule, SelectionRule)
            expected = plain._select_by_loop(boxes, scores, rule)
        values = expected.confidences
        assert len(values.unique()) < len(values)
        assert_equal(chosen(name, boxes, scores), expected)


def test_the_convention_decides_what_overlaps() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [5.0, 0.0, 14.0, 9.0]] + [[90.0, 0, 99, 9]] * 9)
    scores = torch.full((11, 1), 0.5)
    rule = replace(c4_selection("butd-10-100"), minimum=0)  # type: ignore[type-var]
    assert choose(boxes, scores, rule, PLAIN).rows.tolist() == [0, 1, 2]
    assert choose(boxes, scores, rule, BUTD).rows.tolist() == [0, 2]


def test_an_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="vinvl-filter2"):
        c4_selection("vinvl")
