"""What the ranks measure in one step, and how they agree on it in one collective."""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from pretrain.engine import UNKNOWN_NORM, GradientNorm
from pretrain.feeding import Batch
from pretrain.ranks import Ranks

COUNTS = ("text", "regions", "masked", "predicted")
"""Tokens, regions, tokens that are to be predicted, and regions that are."""


@dataclass
class Measured:
    """What one rank measured in the passes of one step, and then what all of them did."""

    names: list[str]
    passes: list[torch.Tensor] = field(default_factory=list)
    """Of each pass the loss and its parts, on the device: read once a step, not once a pass."""
    numbers: list[int] = field(default_factory=list)
    """Of each pass the number of its micro-batch in the step."""
    norm: GradientNorm = UNKNOWN_NORM
    ids: int = 0
    """Sum over this rank's samples of the hashes of what they are."""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    """Of COUNTS, without padding: first this rank's, then all ranks'."""
    forward_seconds: float = 0.0
    """Time of this rank's forward passes: alone, without waiting for others."""
    _events: list[tuple[Any, Any]] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    """Numbers of this rank's micro-batches whose loss is not finite."""
    finite: bool = True
    stop: bool = False
    grad_norm: float | None = None
    """NaN where it is not finite, None where nothing is known of it."""
    loss: float = 0.0
    losses: list[float] = field(default_factory=list)
    rank_seconds: list[float] = field(default_factory=list)
    """Of each rank the time of its forward passes."""

    @contextmanager
    def forward(self, device: torch.device) -> Iterator[None]:
        """Measure one forward pass, on a GPU without waiting for it."""
        if device.type != "cuda":
            began = time.monotonic()
            yield
            self.forward_seconds += time.monotonic() - began
            return
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        stop.record()
        self._events.append((start, stop))

    def add(self, loss: torch.Tensor, losses: dict[str, torch.Tensor], number: int) -> None:
        """Take in the outcome of one pass."""
        values = [loss.detach(), *(losses[name] for name in self.names)]
        self.passes.append(torch.stack([value.double() for value in values]))
        self.numbers.append(number)

    def count(self, batch: Batch) -> None:
        """Take in the sizes of one batch: a joint mask begins with the text."""
        text = batch["input_ids"].shape[1] if "input_ids" in batch else 0
        for name in ("attention_mask", "visual_attention_mask", "region_mask"):
            if (mask := batch.get(name)) is None:
                continue
            seen = mask > 0  # [batch, text], [batch, regions] or [batch, text + regions]
            width = text if name == "attention_mask" else 0
            self.counts["text"] += int(seen[:, :width].sum())
            self.counts["regions"] += int(seen[:, width:].sum())
        if (packed := batch.get("row_lengths")) is not None:  # [text and regions, if any, rows]
            for name, count in zip(COUNTS, packed.sum(dim=1).tolist(), strict=False):
                self.counts[name] += count
        if (labels := batch.get("masked_labels")) is not None:
            self.counts["masked"] += int((labels >= 0).sum())
        if (places := batch.get("predicted_regions")) is not None:
            self.counts["predicted"] += len(places)

    @property
    def tokens(self) -> int:
        """Tokens and regions that were read, without padding."""
        return self.counts["text"] + self.counts["regions"]

    def agree(self, ranks: Ranks, stop: bool) -> None:
        """Fill in the means over all ranks and their common verdicts."""
        rows = torch.stack(self.passes).tolist()
        # The list was waited for, and so were all passes before it. Events count milliseconds.
        self.forward_seconds += sum(a.elapsed_time(b) for a, b in self._events) / 1000
        self.bad = [
            number
            for number, row in zip(self.numbers, rows, strict=True)
            if not all(map(math.isfinite, row))
        ]
        # A NaN would hide the other figures from all ranks.
        sums = [sum(filter(math.isfinite, column)) for column in zip(*rows, strict=True)]
        norm = self.norm.value
        flags = [len(rows), len(self.bad), stop, norm or 0.0]
        counts = [self.ids, *self.counts.values()]
        seconds = [0.0] * ranks.size
        seconds[ranks.rank] = self.forward_seconds
        total = iter(ranks.total([*flags, *counts, *seconds, *sums]))
        passes, bad, stops, norms = (next(total) for _ in flags)
        self.ids, *sizes = (int(next(total)) for _ in counts)
        self.counts = dict(zip(self.counts, sizes, strict=True))
        self.rank_seconds = [next(total) for _ in seconds]
        self.finite, self.stop = bad == 0, stops > 0
        # Every rank has the same float32, whose sum and mean are exact in float64; or one has NaN.
        self.grad_norm = None if norm is None else norms / ranks.size
        self.loss, *self.losses = (value / passes for value in total)

    def slowest(self) -> tuple[int, float, float]:
        """Return the rank whose forward passes took longest, its seconds, and all ranks' median."""
        if not self.rank_seconds:
            return 0, 0.0, 0.0
        rank = max(range(len(self.rank_seconds)), key=self.rank_seconds.__getitem__)
        return rank, self.rank_seconds[rank], statistics.median(self.rank_seconds)
