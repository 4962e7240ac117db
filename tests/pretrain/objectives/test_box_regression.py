"""Boxes by hand, against torchvision's GIoU, and what a degenerate box does."""

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou

from pretrain.objectives import box_regression

# Centre and size. By hand for the first pair: they share a quarter of each other's area.
MINE = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2], [0.3, 0.6, 0.2, 0.4]])
GIVEN = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2], [0.8, 0.2, 0.1, 0.2]])
ALL = torch.ones(3)


def _published(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    overlap = generalized_box_iou(
        box_convert(predictions, "cxcywh", "xyxy"), box_convert(targets, "cxcywh", "xyxy")
    ).diag()
    return ((predictions - targets).abs().sum() + (1 - overlap).sum()) / len(predictions)


def test_one_pair_by_hand() -> None:
    # Common 1/16, union 2/4 - 1/16 = 7/16, hull 9/16: GIoU = 1/7 - 2/9.
    loss = box_regression.loss(MINE[:1], GIVEN[:1], torch.ones(1))
    assert float(loss) == pytest.approx(0.5 + 1 - (1 / 7 - 2 / 9), rel=1e-6)


@pytest.mark.parametrize("form", [box_regression.loss, box_regression.published_loss])
def test_the_same_as_torchvision_in_value_and_gradient(form: object) -> None:
    generator = torch.Generator().manual_seed(0)
    mine = torch.rand(64, 4, generator=generator).requires_grad_()
    given = torch.rand(64, 4, generator=generator)
    assert callable(form)
    ours, theirs = form(mine, given, torch.ones(64)), _published(mine, given)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-6)
    (our_gradient,) = torch.autograd.grad(ours, mine)
    (their_gradient,) = torch.autograd.grad(theirs, mine)
    assert torch.allclose(our_gradient, their_gradient, atol=1e-6)


def test_rows_without_a_box_do_not_count() -> None:
    valid = torch.tensor([1, 0, 1])
    loss = box_regression.loss(MINE, GIVEN, valid)
    kept = torch.tensor([0, 2])
    assert float(loss) == pytest.approx(float(_published(MINE[kept], GIVEN[kept])), rel=1e-6)
    mine = MINE.clone().requires_grad_()
    nothing = box_regression.loss(mine, GIVEN, torch.zeros(3))
    nothing.backward()
    assert float(nothing.detach()) == 0.0
    assert mine.grad is not None
    assert not mine.grad.any()


def test_an_inverted_box_takes_all_overlaps_as_published_and_its_own_in_the_sound_form() -> None:
    given = GIVEN.clone()
    given[1, 2] = -0.1
    distance = float((MINE - given).abs().sum())
    published = box_regression.published_loss(MINE, given, ALL)
    assert float(published) == pytest.approx(distance / 3, rel=1e-6)
    kept = torch.tensor([0, 2])
    overlaps = 2 * float(_published(MINE[kept], GIVEN[kept]))
    overlaps -= float((MINE - GIVEN)[kept].abs().sum())
    sound = box_regression.loss(MINE, given, ALL)
    assert float(sound) == pytest.approx((distance + overlaps) / 3, rel=1e-6)


def test_boxes_without_area_have_a_finite_gradient() -> None:
    mine = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.3]], requires_grad=True)
    loss = box_regression.loss(mine, mine.detach().clone(), torch.ones(2))
    loss.backward()
    assert torch.isfinite(loss)
    assert mine.grad is not None
    assert torch.isfinite(mine.grad).all()
