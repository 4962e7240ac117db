"""Position tables of Swin for another window: splines that keep what a cubic can say."""

import numpy as np
import pytest
import torch

from pretrain.models.position_tables import old_positions, resize_position_table, spline_matrix


def test_a_table_that_fits_is_left_alone() -> None:
    table = torch.randn(13 * 13, 4)
    assert resize_position_table(table, 7) is table


def test_old_entries_reach_as_far_as_the_new_table() -> None:
    places = old_positions(6, 11)
    assert len(places) == 13
    assert places[6] == 0
    assert np.allclose(places, -places[::-1])
    assert places[-1] == pytest.approx(11, abs=1e-4)
    steps = np.diff(places[6:])
    assert steps[0] == pytest.approx(1)
    assert steps[1:] / steps[:-1] == pytest.approx(steps[1])


def test_cubics_are_reproduced() -> None:
    knots = np.array([-5.0, -2.5, -1, 0, 1, 2.5, 5])
    places = np.linspace(-5, 5, 41)

    def cubic(x: np.ndarray) -> np.ndarray:
        return 0.3 * x**3 - x**2 + 2 * x - 1

    assert np.allclose(spline_matrix(knots, places) @ cubic(knots), cubic(places))
    assert np.allclose(spline_matrix(knots, knots), np.eye(7), atol=1e-12)
    # Beyond the last knot the value stays.
    assert np.allclose(spline_matrix(knots, np.array([7.0])) @ knots, 5)


@pytest.mark.parametrize("window", [12, 15])
def test_a_smooth_table_keeps_its_shape(window: int) -> None:
    reach = window - 1
    old = old_positions(6, reach)

    def bias(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        waves = np.cos(y[:, None] / 6) * np.sin(x[None, :] / 5)
        slopes = 0.02 * y[:, None] - 0.01 * x[None, :] ** 2
        return np.stack([waves, slopes + 0 * waves], axis=-1)

    table = torch.from_numpy(bias(old, old)).float().flatten(0, 1)
    resized = resize_position_table(table, window)
    side = 2 * window - 1
    assert resized.shape == (side * side, 2)
    assert resized.dtype == torch.float32
    whole = np.arange(-reach, reach + 1.0)
    wanted = torch.from_numpy(bias(whole, whole)).float().flatten(0, 1)
    assert (resized[:, 0] - wanted[:, 0]).abs().max() < 0.01
    assert (resized[:, 1] - wanted[:, 1]).abs().max() < 1e-4


def test_rows_stay_rows() -> None:
    side = 13
    rows = torch.arange(side).float().repeat_interleave(side)[:, None]
    resized = resize_position_table(rows, 9).view(17, 17)
    assert torch.allclose(resized, resized[:, :1].expand(17, 17), atol=1e-5)
    assert resized[0, 0] == pytest.approx(0, abs=1e-3)
    assert resized[-1, 0] == pytest.approx(12, abs=1e-3)


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="not square"):
        resize_position_table(torch.zeros(10, 2), 7)
    with pytest.raises(ValueError, match="too small"):
        resize_position_table(torch.zeros(9, 2), 7)
