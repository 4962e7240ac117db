"""What makes two runs comparable step by step: a hash of the samples, a checksum of the weights.

Both stand in metrics.jsonl beside loss and gradient norm; `trawl pretrain compare` reads them.
"""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from pretrain.batches.order import Place
from pretrain.batches.permutation import scramble

# Columns in which a parameter's numbers are summed up, so that a pass over them is all it takes.
_COLUMNS = 1024


def ids_sum(places: Sequence[Place]) -> int:
    """Return the sum of 32-bit hashes of what each of `places` is: corpus, sample, epoch, position.

    A sum, so that it is the same however the ranks divide a step among them; its float64 is exact
    up to two million samples.
    """
    rows = np.array(places, dtype=np.uint64)  # [samples, 4]
    mixed = np.zeros(len(rows), dtype=np.uint64)
    for column in range(rows.shape[1]):
        mixed = scramble(mixed ^ rows[:, column], np.uint64(column + 1))
    return int((mixed >> np.uint64(32)).sum())


def checksum(model: nn.Module, divided: bool) -> str:
    """Return 16 hex digits over the bits of every parameter of `model`, by name.

    divided: ZeRO 3 has divided them, so each is gathered for it; a collective.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in model.named_parameters():
        with _whole(parameter, divided):
            digest.update(name.encode())
            digest.update(_column_sums(parameter.detach()).cpu().numpy().tobytes())
    return digest.hexdigest()


def _whole(parameter: nn.Parameter, divided: bool) -> AbstractContextManager[Any]:
    if not divided:
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters([parameter])
    return gathered


def _column_sums(values: torch.Tensor) -> torch.Tensor:
    """Return the sums of the bits of `values`, taken as integers, in columns [up to 1024, int64].

    Integers wrap around and know no order, so that no device and no thread count changes the sum.
    """
    kind = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    bits = values.contiguous().view(-1).view(kind)
    whole = len(bits) // _COLUMNS * _COLUMNS
    rest = bits[whole:].to(torch.int64)
    sums = bits[:whole].view(-1, _COLUMNS).sum(dim=0, dtype=torch.int64)
    sums[: len(rest)] += rest
    return sums
