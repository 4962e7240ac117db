"""Batches that are made row by row: padded or packed, in order or dealt."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy.typing as npt
import torch

from pretrain.batches.dealing import dealt
from pretrain.batches.pairs import Place
from pretrain.batches.stored import assembled, tensors

SAMPLE_NUMBERS = "sample_numbers"
Row = TypeVar("Row")
Array = npt.NDArray[Any]


class RowBatches(ABC, Generic[Row]):
    """Batches of rows, each of which depends on its sample alone and not on the batch it is in.

    A family says how a row is drawn, how long it is, and what a batch of rows holds.
    """

    numbered = False
    """Whether batches say in sample_numbers int64 [batch] where in the stage each row stands."""

    def __init__(self, packed: bool) -> None:
        """Take whether the batches of training are packed instead of padded."""
        self._packed = packed

    @abstractmethod
    def _rows(self, positions: Sequence[Place]) -> list[Row]:
        """Return the rows of `positions`, all that is up to chance in their texts drawn."""

    @abstractmethod
    def _length(self, row: Row) -> int:
        """Return how many tokens and regions the model reads of `row`."""

    @abstractmethod
    def _batch(
        self, rows: Sequence[Row], positions: Sequence[Place], packed: bool
    ) -> dict[str, Array]:
        """Return the rows of `positions` as a batch, with the targets of the objectives."""

    def make(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return the batch of `positions`, padded, as the model reads it."""
        return assembled(tensors(self._batch(self._rows(positions), positions, False)))

    def make_stored(self, positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        """Return what `make` does, packed if wanted, and with the features as they are stored.

        See `assembled`. Packed, everything has one row that holds all rows end to end, and
        row_lengths int64 [2, batch] has the tokens and regions of each, instead of masks.
        """
        return self._made(self._rows(positions), positions)

    def _made(self, rows: Sequence[Row], positions: Sequence[Place]) -> dict[str, torch.Tensor]:
        batch = tensors(self._batch(rows, positions, self._packed))
        if self.numbered:
            batch[SAMPLE_NUMBERS] = torch.tensor([position[3] for position in positions])
        return batch

    def make_dealt(
        self, positions: Sequence[Place], batches: int, wanted: Sequence[int]
    ) -> list[dict[str, torch.Tensor]]:
        """Return those `wanted` of the `batches` among which the rows of `positions` are dealt.

        As many rows go to each, and about as many tokens and regions: see `dealt`.
        """
        rows = self._rows(positions)
        hands = dealt(list(map(self._length, rows)), batches)
        made = []
        for hand in (hands[number] for number in wanted):
            own, places = [rows[number] for number in hand], [positions[number] for number in hand]
            made.append(self._made(own, places))
        return made

    def lengths(self, positions: Sequence[Place]) -> list[int]:
        """Return how many tokens and regions each row of `positions` has."""
        return list(map(self._length, self._rows(positions)))
