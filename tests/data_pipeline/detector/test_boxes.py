"""Anchors, box coding and proposals."""

import torch

from data_pipeline.detector.anchors import (
    PROPOSAL_WEIGHTS,
    REGION_WEIGHTS,
    anchor_grid,
    cell_anchors,
    clip,
    decode,
    encode,
)
from data_pipeline.detector.proposals import ProposalRule, propose


def _random_boxes(count: int, seed: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=chance) * 200
    return torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=chance) * 100], dim=1)


def test_decoding_undoes_encoding() -> None:
    references, targets = _random_boxes(200, 1), _random_boxes(200, 2)
    for weights in (REGION_WEIGHTS, PROPOSAL_WEIGHTS):
        deltas = encode(references, targets, weights)
        torch.testing.assert_close(decode(references, deltas, weights), targets, atol=1e-3, rtol=0)


def test_zero_deltas_keep_the_box_and_huge_ones_stay_finite() -> None:
    boxes = _random_boxes(5, 3)
    torch.testing.assert_close(decode(boxes, torch.zeros(5, 4), REGION_WEIGHTS), boxes)
    assert decode(boxes, torch.full((5, 4), 1e6), REGION_WEIGHTS).isfinite().all()


def test_anchors_have_the_asked_area_and_ratio_and_sit_on_cell_centres() -> None:
    cells = cell_anchors((32.0, 64.0), (0.5, 1.0, 2.0))
    sides = cells[:, 2:] - cells[:, :2]
    torch.testing.assert_close(sides.prod(dim=1).sqrt(), torch.tensor([32.0] * 3 + [64.0] * 3))
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1.0, 2.0] * 2))
    grid = anchor_grid(cells, rows=3, columns=5, stride=8)
    assert grid.shape == (3 * 5 * 6, 4)
    centres = (grid[:, :2] + grid[:, 2:]) / 2
    torch.testing.assert_close(centres[0], torch.tensor([4.0, 4.0]))
    torch.testing.assert_close(centres[6], torch.tensor([12.0, 4.0]))
    torch.testing.assert_close(centres[-1], torch.tensor([36.0, 20.0]))


def test_clipping_keeps_boxes_inside() -> None:
    boxes = torch.tensor([[-5.0, -6.0, 500.0, 40.0]])
    assert clip(boxes, height=30, width=100).tolist() == [[0.0, 0.0, 100.0, 30.0]]


def test_proposals_fall_in_score_and_do_not_overlap_too_much() -> None:
    anchors = _random_boxes(300, 4)
    logits = torch.randn(2, 300, generator=torch.Generator().manual_seed(5))
    found = propose(
        logits, torch.zeros(2, 300, 4), anchors, (300, 300), ProposalRule(after=20, overlap=0.5)
    )
    for image, boxes in enumerate(found):
        assert 0 < len(boxes) <= 20
        best = anchors[logits[image].argmax()]
        torch.testing.assert_close(boxes[0], clip(best, 300, 300))


def test_an_image_without_a_large_proposal_is_its_own_proposal() -> None:
    tiny = torch.tensor([[1.0, 1.0, 2.0, 2.0]])
    found = propose(torch.ones(1, 1), torch.zeros(1, 1, 4), tiny, (50, 60), ProposalRule())
    assert found[0].tolist() == [[0.0, 0.0, 60.0, 50.0]]
