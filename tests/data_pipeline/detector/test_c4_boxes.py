"""Anchors, coding of boxes and proposals of the three families against loops over scalars."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.detector.c4_anchors import anchor_grid, cell_anchors
from data_pipeline.detector.c4_config import C4Config, family_config
from data_pipeline.detector.c4_proposals import clip, decode, propose, suppress
from trawl.errors import RequestError

CAFFE = [
    (-38, -16, 53, 31),
    (-84, -40, 99, 55),
    (-176, -88, 191, 103),
    (-360, -184, 375, 199),
    (-24, -24, 39, 39),
    (-56, -56, 71, 71),
    (-120, -120, 135, 135),
    (-248, -248, 263, 263),
    (-14, -36, 29, 51),
    (-36, -80, 51, 95),
    (-80, -168, 95, 183),
    (-168, -344, 183, 359),
]


def test_caffes_anchors_are_the_published_ones() -> None:
    assert cell_anchors("caffe").tolist() == [list(box) for box in CAFFE]


def test_vinvls_anchors_have_one_smaller_scale_a_ratio() -> None:
    smaller = [(-15, -4, 30, 19), (-8, -8, 23, 23), (-3, -14, 18, 29)]
    wanted = []
    for ratio in range(3):
        wanted += [list(smaller[ratio]), *map(list, CAFFE[4 * ratio :][:4])]
    assert cell_anchors("vinvl").tolist() == wanted


def test_detectron2s_anchors_are_exact_and_centred_on_the_corner() -> None:
    cells = cell_anchors("d2")
    assert torch.allclose(cells[:, :2], -cells[:, 2:])
    sides = cells[:, 2:] - cells[:, :2]
    assert torch.allclose(sides.prod(dim=1).sqrt(), torch.tensor([64.0, 128, 256, 512] * 3))
    ratios = torch.tensor([0.5] * 4 + [1.0] * 4 + [2.0] * 4)
    assert torch.allclose(sides[:, 1] / sides[:, 0], ratios)


def test_the_grid_runs_by_row_then_column_then_anchor() -> None:
    grid = anchor_grid(torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2]]), 2, 3)
    assert grid.shape == (12, 4)
    assert grid[3].tolist() == [16, 0, 18, 2]
    assert grid[6].tolist() == [0, 16, 1, 17]


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(RequestError, match="choose one of caffe, d2, vinvl"):
        cell_anchors("coco")


def decoded_by_hand(box: list[float], delta: list[float], config: C4Config) -> list[float]:
    """One box in float64, written from the sheet."""
    extra = {"butd": 1, "butd-d2": 0, "vinvl": 1}[config.family]
    last = {"butd": 0, "butd-d2": 0, "vinvl": 1}[config.family]
    limit = math.inf if config.family == "butd" else math.log(1000 / 16)
    wx, wy, ww, wh = config.regression_weights
    width, height = box[2] - box[0] + extra, box[3] - box[1] + extra
    x = box[0] + 0.5 * width + delta[0] / wx * width
    y = box[1] + 0.5 * height + delta[1] / wy * height
    half_width = 0.5 * width * math.exp(min(delta[2] / ww, limit))
    half_height = 0.5 * height * math.exp(min(delta[3] / wh, limit))
    return [x - half_width, y - half_height, x + half_width - last, y + half_height - last]


@pytest.mark.parametrize("family", ["butd", "butd-d2", "vinvl"])
def test_decoding_follows_the_family(family: str) -> None:
    config = family_config(family)
    generator = torch.Generator().manual_seed(1)
    boxes = torch.tensor([[3.0, 5, 90, 70], [0, 0, 15, 15], [30.5, 10.25, 31.5, 60]])
    deltas = torch.randn(3, 8, generator=generator)
    deltas[1, 2] = 40.0  # beyond the limit of growth, for weights of 5
    if family == "butd":
        deltas[1, 2] = 6.0
    found = decode(boxes, deltas, config.regression_weights, config.boxes)
    for row in range(3):
        for column in range(2):
            delta = deltas[row, 4 * column :][:4].tolist()
            wanted = torch.tensor(decoded_by_hand(boxes[row].tolist(), delta, config))
            assert torch.allclose(found[row, 4 * column :][:4], wanted, rtol=1e-5, atol=1e-4)


def test_boxes_are_cut_to_the_last_pixel_or_to_the_edge() -> None:
    box = torch.tensor([[-5.0, -5, 500, 400]])
    assert clip(box, (100, 200), family_config("butd").boxes).tolist() == [[0, 0, 199, 99]]
    assert clip(box, (100, 200), family_config("vinvl").boxes).tolist() == [[0, 0, 199, 99]]
    assert clip(box, (100, 200), family_config("butd-d2").boxes).tolist() == [[0, 0, 200, 100]]


def overlap(first: list[float], second: list[float], extra: float) -> float:
    """Intersection over union in float32, as the published loops compute it."""
    f = np.float32
    across = max(f(0), f(min(first[2], second[2]) - max(first[0], second[0]) + extra))
    down = max(f(0), f(min(first[3], second[3]) - max(first[1], second[1]) + extra))
    areas = [f((b[2] - b[0] + extra) * (b[3] - b[1] + extra)) for b in (first, second)]
    common = f(across * down)
    union = f(areas[0] + areas[1] - common)
    return float(common / union) if union else math.nan  # nothing suppresses an empty box


def suppressed_by_loop(boxes: Tensor, scores: Tensor, threshold: float, family: str) -> list[int]:
    """Greedy suppression, one pair at a time."""
    extra = 1.0 if family == "butd" else 0.0
    kept: list[int] = []
    for row in scores.argsort(descending=True, stable=True).tolist():
        shares = [overlap(boxes[row].tolist(), boxes[other].tolist(), extra) for other in kept]
        above = [share >= threshold if family == "butd" else share > threshold for share in shares]
        if not any(above):
            kept.append(row)
    return kept


@pytest.mark.parametrize("family", ["butd", "butd-d2", "vinvl"])
def test_suppression_is_the_loop_of_the_family(family: str) -> None:
    generator = torch.Generator().manual_seed(3)
    corners = (torch.rand(150, 2, generator=generator) * 100).round()
    boxes = torch.cat(
        [corners, corners + (torch.rand(150, 2, generator=generator) * 60).round()], 1
    )
    boxes[:, 2:] += 1
    scores = torch.rand(150, generator=generator)
    found = suppress(boxes, scores, 0.5, family_config(family).boxes)
    assert found.tolist() == suppressed_by_loop(boxes, scores, 0.5, family)


def test_only_caffe_suppresses_at_exactly_the_threshold() -> None:
    scores = torch.tensor([0.9, 0.8])
    half = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])  # 10 x 10 and 10 x 5 with the last pixel
    assert len(suppress(half, scores, 0.5, family_config("butd").boxes)) == 1
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    assert len(suppress(half, scores, 0.5, family_config("butd-d2").boxes)) == 2


def outputs(config: C4Config, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    count = config.anchors_per_cell
    logits = torch.randn(1, count, rows, columns, generator=generator)
    return logits, 0.3 * torch.randn(1, 4 * count, rows, columns, generator=generator)


def proposed_by_loop(
    logits: Tensor, deltas: Tensor, cells: Tensor, config: C4Config, size: tuple[int, int]
) -> Tensor:
    """Proposals of one image at scale 2, one anchor at a time, in the order of the family."""
    plain = replace(config, regression_weights=(1.0, 1.0, 1.0, 1.0))
    edge = 0 if config.family == "butd-d2" else 1
    scored = []
    for row in range(logits.shape[2]):
        for column in range(logits.shape[3]):
            for anchor in range(len(cells)):
                shift = torch.tensor([16.0 * column, 16.0 * row] * 2)
                delta = deltas[0, 4 * anchor : 4 * anchor + 4, row, column].tolist()
                box = decoded_by_hand((cells[anchor] + shift).tolist(), delta, plain)
                box = [
                    min(max(value, 0.0), limit - edge)
                    for value, limit in zip(box, (size[1], size[0]) * 2, strict=True)
                ]
                scored.append((float(logits[0, anchor, row, column]), box))
    ranked = sorted(scored, key=lambda pair: -pair[0])
    before = config.proposals.before
    if config.family != "butd":
        ranked = ranked[:before]
    least = 32.0 if config.family == "butd" else 0.0
    sides = [(b[2] - b[0] + edge, b[3] - b[1] + edge) for _, b in ranked]
    if config.family == "butd-d2":
        kept = [pair for pair, side in zip(ranked, sides, strict=True) if min(side) > least]
    else:
        kept = [pair for pair, side in zip(ranked, sides, strict=True) if min(side) >= least]
    kept = kept[:before]
    boxes = torch.tensor([box for _, box in kept])
    scores = torch.tensor([score for score, _ in kept])
    places = suppressed_by_loop(boxes, scores, 0.7, config.family)
    return boxes[places][: config.proposals.after]


@pytest.mark.parametrize("family", ["butd", "butd-d2", "vinvl"])
def test_proposals_are_those_of_the_loop(family: str) -> None:
    config = family_config(family)
    config = replace(config, proposals=replace(config.proposals, before=70, after=40))
    cells = cell_anchors(config.anchors)
    logits, deltas = outputs(config, 3, 4)
    found = propose(logits, deltas, cells, config, [(45, 61)], [2.0])[0]
    wanted = proposed_by_loop(logits, deltas, cells, config, (45, 61))
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("family", ["butd", "butd-d2", "vinvl"])
def test_cells_of_padding_change_nothing(family: str) -> None:
    config = family_config(family)
    cells = cell_anchors(config.anchors)
    logits, deltas = outputs(config, 3, 4)
    padded = torch.full((2, logits.shape[1], 6, 7), 50.0)
    padded_deltas = torch.zeros(2, deltas.shape[1], 6, 7)
    padded[1, :, :3, :4], padded_deltas[1, :, :3, :4] = logits[0], deltas[0]
    sizes, scales = [(90, 110), (45, 61)], [1.0, 1.0]
    both = propose(padded, padded_deltas, cells, config, sizes, scales, [(6, 7), (3, 4)])
    alone = propose(logits, deltas, cells, config, sizes[1:], scales[1:])
    assert torch.equal(both[1], alone[0])


def test_an_image_without_any_large_proposal_is_its_own_proposal() -> None:
    config = family_config("butd")
    logits, deltas = outputs(config, 1, 1)
    found = propose(logits, deltas, cell_anchors("caffe"), config, [(10, 12)], [1.0])
    assert found[0].tolist() == [[0, 0, 11, 9]]
