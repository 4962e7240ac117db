"""Feature regression by hand."""

import pytest
import torch

from pretrain.objectives import feature_regression

PREDICTIONS = torch.tensor([[0.0, 0.5, 3.0, 1.0], [2.0, 0.0, 0.0, 0.0]])
TARGETS = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, -0.4]])


def test_squared_distance_is_summed_over_the_feature() -> None:
    loss = feature_regression.loss(PREDICTIONS, TARGETS)
    assert float(loss) == pytest.approx(((0.25 + 4) + (4 + 0.16)) / 2, rel=1e-6)


def test_smooth_distance_is_averaged_over_the_feature() -> None:
    first, second = (0.125 + 1.5) / 4, (1.5 + 0.08) / 4
    normaliser = torch.tensor(36 * 0.15)
    loss = feature_regression.smooth_loss(
        PREDICTIONS, TARGETS, torch.tensor([1.0, 1.0]), normaliser
    )
    assert float(loss) == pytest.approx((first + second) / 5.4, rel=1e-6)
    masked = feature_regression.smooth_loss(PREDICTIONS, TARGETS, torch.tensor([0, 1]), normaliser)
    assert float(masked) == pytest.approx(second / 5.4, rel=1e-6)
