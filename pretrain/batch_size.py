"""How many samples pass through the model at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.recipe import StageRecipe
from trawl.errors import RequestError

LOOKED_AT = 256
"""Samples from which the lengths of all are judged."""
_DEVIATIONS = 2.5


@dataclass(frozen=True)
class Lengths:
    """How many tokens and regions samples have: the longest, and where rows are packed the usual.

    mean, deviation: of a packed sample; nothing where samples are padded.
    """

    longest: int
    mean: float | None = None
    deviation: float = 0.0

    @classmethod
    def seen(cls, longest: int, lengths: Sequence[int]) -> "Lengths":
        """Return those of packed samples, of which some have `lengths`."""
        return cls(longest, float(np.mean(lengths)), float(np.std(lengths)))

    def fitting(self, budget: int) -> int:
        """Return how many samples have no more than `budget` tokens and regions together.

        Padded, all of them always; packed, in more than 99 passes of a hundred: the sum over n
        samples lies 2.5 deviations times the root of n above its mean at most.
        """
        if self.mean is None:
            return budget // self.longest
        spread = _DEVIATIONS * self.deviation
        root = (math.sqrt(spread**2 + 4 * self.mean * budget) - spread) / (2 * self.mean)
        return int(root**2)


def micro_batch_size(stage: StageRecipe, ranks: int, lengths: Lengths) -> int:
    """Return the samples of one pass for `stage` on `ranks` ranks, of samples of `lengths`.

    Raises RequestError when the batch does not divide.
    """
    batch = stage.batch
    if batch.micro_batch is not None:
        size = batch.micro_batch
    else:
        share, rest = divmod(batch.samples, ranks)
        if rest or not share:
            raise RequestError(
                f"stage {stage.name}: batch.samples {batch.samples} does not divide by {ranks} "
                f"ranks; take {max(1, share) * ranks}"
            )
        size = share
        if batch.tokens_per_micro_batch is not None:
            most = lengths.fitting(batch.tokens_per_micro_batch)
            if most < 1:
                raise RequestError(
                    f"stage {stage.name}: batch.tokens_per_micro_batch "
                    f"{batch.tokens_per_micro_batch} is less than a sample; take {lengths.longest}"
                )
            size = next(n for n in range(min(most, share), 0, -1) if share % n == 0)
    if batch.samples % (size * ranks):
        raise RequestError(
            f"stage {stage.name}: batch.samples {batch.samples} does not divide by {ranks} ranks "
            f"of micro-batches of {size}; take {-(-batch.samples // (size * ranks)) * size * ranks}"
        )
    if (batch.samples // size) % batch.balance:
        raise RequestError(
            f"stage {stage.name}: batch.balance {batch.balance} does not divide the "
            f"{batch.samples // size} micro-batches of a step; take 1"
        )
    return size
