"""Every schedule by hand, and against what the releases call."""

import pytest
import torch

from pretrain import schedules
from pretrain.schedules import learning_rate


def _rates(decay: str, warmup: int, steps: int, peak: float = 1.0) -> list[float]:
    return [learning_rate(step, peak, warmup, steps, decay) for step in range(steps)]


def test_linear_loses_no_step() -> None:
    rates = _rates("linear", 4, 10)
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == pytest.approx([1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_the_linear_rate_keeps_its_bits() -> None:
    # As the demo was trained: peak times the step first, then the division.
    assert _rates("linear", 7, 19, 1e-4)[4] == 1e-4 * 5 / 7
    assert _rates("linear", 7, 19, 1e-4)[11] == 1e-4 * 8 / 12


@pytest.mark.parametrize("decay", ["linear-from-zero", "triangle"])
def test_the_published_forms_begin_at_zero(decay: str) -> None:
    expected = [0, 1 / 4, 2 / 4, 3 / 4, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert _rates(decay, 4, 10) == pytest.approx(expected, abs=1e-12)
    assert _rates(decay, 0, 4) == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])
    assert _rates(decay, 4, 4) == pytest.approx([0, 1 / 4, 2 / 4, 3 / 4])
    assert learning_rate(11, 1.0, 4, 10, decay) == 0.0


def test_linear_from_zero_is_what_transformers_does() -> None:
    transformers = pytest.importorskip("transformers")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=3e-5)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 5, 23)
    for step in range(23):
        assert optimizer.param_groups[0]["lr"] == learning_rate(
            step, 3e-5, 5, 23, "linear-from-zero"
        )
        optimizer.step()
        scheduler.step()


def test_a_constant_rate_stays_and_a_multistep_one_falls() -> None:
    assert _rates("constant", 2, 5) == [0.5, 1.0, 1.0, 1.0, 1.0]
    rates = [schedules.multistep(step, 2.0, 2, [3, 5], 0.5) for step in range(7)]
    assert rates == [1.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5]
    assert learning_rate(5, 2.0, 2, 7, "multistep", [3, 5], 0.5) == 0.5


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="cosine"):
        learning_rate(0, 1.0, 0, 1, "cosine")
