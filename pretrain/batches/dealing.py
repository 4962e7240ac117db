"""Dealing rows of uneven length among batches, so that each has about as many tokens."""

from collections.abc import Sequence


def dealt(lengths: Sequence[int], batches: int) -> list[list[int]]:
    """Return the numbers of the rows of each of `batches`, each list in rising order.

    Longest first, in rounds: of the batches that have no row of the round yet, the one with the
    fewest tokens takes the next. So each has as many rows, which leaves the mean over batches the
    mean over rows. A function of the lengths alone. The count of rows divides by `batches`.
    """
    hands: list[list[int]] = [[] for _ in range(batches)]
    tokens = [0] * batches
    arranged = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    for start in range(0, len(arranged), batches):
        lightest = sorted(range(batches), key=lambda batch: (tokens[batch], batch))
        for row, batch in zip(arranged[start : start + batches], lightest, strict=True):
            hands[batch].append(row)
            tokens[batch] += lengths[row]
    return [sorted(hand) for hand in hands]
