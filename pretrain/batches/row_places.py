"""Where the rows of a batch lie when it is one flat list: padded to one width, or end to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowPlaces:
    """Row i has the places `starts[i]` to `ends[i]` - 1, and fills `counts[i]` of them.

    width: what each row is padded to; None where rows are packed end to end.
    """

    starts: Numbers
    ends: Numbers
    counts: Numbers
    width: int | None

    @classmethod
    def of(cls, counts: npt.ArrayLike, width: int | None, least: int = 0) -> "RowPlaces":
        """Return the places of rows of `counts`, padded to `width` each, or packed for None.

        least: places of a packed row at least, filled or not.
        """
        lengths = np.asarray(counts, dtype=np.int64)
        if width is None:
            taken = np.maximum(lengths, least)
            ends = np.cumsum(taken)
            return cls(ends - taken, ends, lengths, None)
        starts = np.arange(len(lengths), dtype=np.int64) * width
        return cls(starts, starts + width, lengths, width)

    @property
    def total(self) -> int:
        """All places, padding included."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def lengths(self) -> Numbers:
        """The places of each row, padding included: [rows]."""
        return self.ends - self.starts

    def shaped(self, flat: Array) -> Array:
        """Return flat [total, ...] as [rows, width, ...]; packed as one row [1, total, ...]."""
        if self.width is None:
            return flat[None]
        return flat.reshape(len(self.starts), self.width, *flat.shape[1:])

    def laid(self, rows: Sequence[Numbers], filler: int = 0) -> Numbers:
        """Return `rows` of numbers at their places, [rows, width] or packed [1, total].

        What they do not fill holds `filler`.
        """
        flat = np.full(self.total, filler, dtype=np.int64)
        for start, row in zip(self.starts.tolist(), rows, strict=True):
            flat[start : start + len(row)] = row
        return self.shaped(flat)

    def flattened(self, columns: Sequence[npt.NDArray[np.integer[Any]]]) -> Numbers:
        """Return the places of the `columns` chosen in each row, all in one list."""
        places = [
            start + own.astype(np.int64)
            for start, own in zip(self.starts.tolist(), columns, strict=True)
        ]
        return np.concatenate([np.empty(0, dtype=np.int64), *places])

    def mask(self) -> Numbers:
        """Return 1 for a filled place and 0 for padding: [rows, width]; not of packed rows."""
        assert self.width is not None
        return (np.arange(self.width) < self.counts[:, None]).astype(np.int64)

    def row_of_each(self) -> Numbers:
        """Return the row of each place [total]."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)


def sight(text: RowPlaces, regions: RowPlaces) -> dict[str, Array]:
    """Return what tells a single-stream model which places belong together.

    attention_mask int64 [rows, text + regions]; of packed rows row_lengths int64 [2, rows].
    """
    if text.width is None:
        return {"row_lengths": np.stack([text.lengths, regions.lengths])}
    return {"attention_mask": np.concatenate([text.mask(), regions.mask()], axis=1)}
