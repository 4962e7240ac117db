"""Rows of different length as one array, and places in it when it is flattened."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]


def padded(rows: Sequence[Array], least: int, filler: float = 0) -> tuple[Array, Places]:
    """Return rows [length, ..] as one array [batch, longest, ..], and its mask [batch, longest].

    It is `least` long at least; what is added holds `filler`, and 0 in the mask.
    """
    lengths = np.array([len(row) for row in rows])
    longest = max(least, int(lengths.max()))
    joined = np.full((len(rows), longest, *rows[0].shape[1:]), filler, dtype=rows[0].dtype)
    for target, row in zip(joined, rows, strict=True):
        target[: len(row)] = row
    return joined, (np.arange(longest) < lengths[:, None]).astype(np.int64)


def flattened(columns: Sequence[npt.NDArray[np.integer[Any]]], width: int) -> Places:
    """Return places in flattened rows, each `width` wide, from the columns chosen in each row."""
    places = [row * width + own.astype(np.int64) for row, own in enumerate(columns)]
    return np.concatenate([np.empty(0, dtype=np.int64), *places])
