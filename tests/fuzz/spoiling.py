"""Inputs for an entrance: a good one, spoilt in a few places. Hypothesis draws and shrinks them."""

from hypothesis import strategies as st

from tests.fuzz.entrances import Entrance

MAX_BYTES = 3_000_000
"""Longest input that is made."""

_REPEATS = (1, 1, 1, 1, 1, 1, 2, 2, 30, 30, 6_000, 300_000)
_LENGTHS = st.sampled_from((0, 1, 2, 4, 50, 5_000))
_PLACES = st.integers(0, 2**20)


def inputs(
    entrance: Entrance, seeds: list[bytes], most: int = max(_REPEATS)
) -> st.SearchStrategy[bytes]:
    """Return inputs of the entrance: seeds with up to eight damages each.

    A damage repeats its piece up to `most` times; many make deep and slow inputs.
    """
    repeats = st.sampled_from([count for count in _REPEATS if count <= most])
    pieces = st.one_of(st.sampled_from(entrance.tokens), st.binary(max_size=6))
    damage = st.tuples(_PLACES, _LENGTHS, pieces, repeats)
    splice = st.tuples(_PLACES, st.integers(0, len(seeds) - 1))
    return st.builds(
        lambda seed, other, damages: _spoilt(seeds, seed, other, damages),
        st.integers(0, len(seeds) - 1),
        st.none() | splice,
        st.lists(damage, max_size=8),
    )


def _spoilt(
    seeds: list[bytes],
    seed: int,
    other: tuple[int, int] | None,
    damages: list[tuple[int, int, bytes, int]],
) -> bytes:
    """Put each damage's piece, repeated, over some bytes of the seed; perhaps end as another does.

    Places are in 2**20ths of the input, so that they keep their meaning while others shrink.
    """
    data = seeds[seed]
    if other is not None:
        place, following = other
        tail = seeds[following]
        data = data[: len(data) * place >> 20] + tail[len(tail) * place >> 20 :]
    for place, length, piece, repeats in damages:
        start = len(data) * place >> 20
        data = (data[:start] + piece * repeats + data[start + length :])[:MAX_BYTES]
    return data
