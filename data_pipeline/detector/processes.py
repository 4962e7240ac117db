"""Data-parallel training of the demo detector: which share of a step is a process's own.

Processes meet over gloo, since the demo detector trains on CPUs. All hold the same weights: they
take rows of the same batch, average their gradients, and make the same step.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import ProcessException, spawn

from trawl.errors import RequestError, TrawlError

_PATIENCE = timedelta(days=1)
"""How long processes wait for the first one, which may shrink a large set of images meanwhile."""


@dataclass(frozen=True)
class Share:
    """One of `size` processes that train together, counted by `rank` from 0; the first one saves.

    A share of several is used only between joining the others and leaving them.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and tells the progress."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """Rows of a batch of `batch` images that are this process's: each is one process's own.

        RequestError where the processes would get unequal numbers of images.
        """
        if batch % self.size:
            raise RequestError(
                f"--batch {batch}: {self.size} processes cannot share it evenly; give a multiple "
                f"of {self.size}"
            )
        return slice(self.rank, None, self.size)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their means over the processes, in one exchange."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Share()


@contextmanager
def joined() -> Iterator[Share]:
    """Join the other processes that torchrun's environment tells of; without it, be alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    with _joined(int(os.environ["RANK"]), size, "env://") as share:
        yield share


def start(count: int, work: Callable[[Share], Any]) -> None:
    """Do `work`, which must travel by pickle, in `count` new processes of this machine.

    An error of a process ends the others and is raised here; they die with this process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError("--processes: torchrun has started them already; leave the option out")
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (count, f"file://{folder}/store", torch.get_num_threads(), work, errors)
        try:
            spawn(_process, arguments, nprocs=count)
        except ProcessException as error:
            if errors.empty():
                raise
            raise errors.get() from error


def _process(
    rank: int, size: int, address: str, threads: int, work: Callable[[Share], Any], errors: Any
) -> None:
    """Be one of the processes; what goes wrong is handed to the one that started them."""
    torch.set_num_threads(threads)
    try:
        with _joined(rank, size, address) as share:
            work(share)
    except TrawlError as error:
        errors.put(error)
        raise SystemExit(1) from error


@contextmanager
def _joined(rank: int, size: int, address: str) -> Iterator[Share]:
    distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=size, timeout=_PATIENCE
    )
    try:
        yield Share(rank, size)
    finally:
        distributed.destroy_process_group()
