"""Masks that are functions: the published numbers, what they do not depend on, how much is kept."""

import pytest
import torch

from pretrain.kernels.counter_dropout import (
    REGIONS,
    Places,
    dropped,
    kept_channels,
    kept_shares,
    philox,
    scale,
    threshold,
)

SEED = torch.tensor([-(2**62) - 12345])


def places(samples: list[int], tokens: list[int], seed: torch.Tensor = SEED) -> Places:
    return Places(seed, torch.tensor(samples), torch.tensor(tokens))


def test_philox_gives_the_published_numbers() -> None:
    # Random123's known answers, tests/kat_vectors.
    def words(seed: int, counters: list[int], rounds: int) -> list[str]:
        counter = tuple(torch.tensor([each]) for each in counters)
        drawn = philox(torch.tensor([seed]), counter, rounds)  # type: ignore[arg-type]
        return [f"{int(word):08x}" for word in drawn]

    assert words(0, [0] * 4, 7) == ["5f6fb709", "0d893f64", "4f121f81", "4f730a48"]
    assert words(0, [0] * 4, 10) == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    everything = [0xFFFFFFFF] * 4
    assert words(-1, everything, 10) == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


def test_a_mask_is_the_same_in_any_order_and_company() -> None:
    apart = [kept_channels(places([sample], [3]), 7, 127, 0.3) for sample in (5, 2**40, 9)]
    together = kept_channels(places([9, 5, 2**40], [3, 3, 3]), 7, 127, 0.3)
    assert torch.equal(together, torch.cat([apart[2], apart[0], apart[1]]))


def test_a_wider_state_has_the_same_first_channels() -> None:
    narrow, wide = (kept_channels(places([1], [2]), 3, width, 0.5) for width in (5, 64))
    assert torch.equal(narrow, wide[:, :5])


def test_everything_that_is_said_changes_the_mask() -> None:
    def mask(sample: int, token: int, site: int, seed: torch.Tensor = SEED) -> torch.Tensor:
        return kept_channels(places([sample], [token], seed), site, 256, 0.5)

    others = [
        mask(1, 2, 3),
        mask(2, 2, 3),
        mask(1 + 2**32, 2, 3),
        mask(1, 3, 3),
        mask(1, REGIONS + 2, 3),
        mask(1, 2, 4),
        mask(1, 2, 3, SEED + 1),
        mask(1, 2, 3, SEED + 2**32),
    ]
    for number, one in enumerate(others):
        for other in others[:number]:
            agreeing = (one == other).float().mean()
            assert 0.3 < agreeing < 0.7  # five deviations about a half


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9])
def test_as_much_is_kept_as_was_asked(probability: float) -> None:
    count = 400
    where = places(list(range(count)), [number % 7 for number in range(count)])
    kept = kept_channels(where, 0, 500, probability).float()
    deviation = (probability * (1 - probability) / kept.numel()) ** 0.5
    assert abs(kept.mean() - (1 - probability)) <= 5 * deviation
    # Neither a channel nor a sample is favoured.
    for axis in (0, 1):
        error = (probability * (1 - probability) / kept.shape[axis]) ** 0.5
        assert (kept.mean(dim=axis) - (1 - probability)).abs().max() <= 5 * error


def test_the_mean_stays() -> None:
    where = places(list(range(300)), [0] * 300)
    found = dropped(torch.ones(300, 400), where, 0, 0.25)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(scale(0.25)).item()}
    assert abs(found.mean() - 1) < 0.01
    assert threshold(0.25) == 2**30
    assert scale(0.25) == pytest.approx(4 / 3, abs=1e-9)


def test_shares_are_kept_by_sample_head_and_pair() -> None:
    asking = Places(SEED, torch.tensor([4, 4, 4]), torch.tensor([0, 1, REGIONS]))
    keys = torch.tensor([0, 1, 2, REGIONS, REGIONS + 1])
    whole = kept_shares(asking, keys, 5, 4, 0.5)
    assert whole.shape == (4, 3, 5)
    some = kept_shares(asking.at(torch.tensor([2])), keys[[3, 1]], 5, 4, 0.5)
    assert torch.equal(some, whole[:, 2:][..., [3, 1]])
    many = kept_shares(
        Places(SEED, torch.full((40,), 3), torch.arange(40)), torch.arange(50), 1, 12, 0.1
    )
    assert abs(many.float().mean() - 0.9) < 5 * (0.09 / many.numel()) ** 0.5
