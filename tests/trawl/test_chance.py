"""Random numbers depend on their key and on nothing else."""

import numpy as np

from trawl.chance import generator, seed_of


def test_equal_keys_draw_equal_numbers_and_others_do_not() -> None:
    first = generator(1, "masks", 2).random(4)
    assert np.array_equal(first, generator(1, "masks", 2).random(4))
    for other in [(1, "masks", 3), (1, "masks2"), ("1", "masks", 2), (1, "mask", "s", 2)]:
        assert not np.array_equal(first, generator(*other).random(4))


def test_numbers_are_the_same_on_every_machine() -> None:
    assert seed_of(0, "a") == seed_of(0, "a")
    assert generator(0, "a").integers(0, 1000, 5).tolist() == [194, 979, 790, 193, 193]


def test_the_means_over_keys_are_those_of_a_uniform_draw() -> None:
    draws = np.array([generator(7, "test", n).random() for n in range(20_000)])
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs((draws < 0.15).mean() - 0.15) < 0.01
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03


def test_seeds_are_63_bit() -> None:
    seeds = [seed_of("x", n) for n in range(1000)]
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert len(set(seeds)) == 1000
