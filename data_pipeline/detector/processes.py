"""Data-parallel training of the demo detector: which share of a step is a process's own.

Each process has a device: a GPU of its own, then they meet over NCCL, or the CPU, then over gloo.
All hold the same weights: they take rows of the same batch, average their gradients, and make the
same step.
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

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Share:
    """One of `size` processes that train together, counted by `rank` from 0; the first one saves.

    `device` is where the process computes, and where all tensors that it shares lie. A share of
    several is used only between joining the others and leaving them.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

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
            own = [self.device.index] if self.device.type == "cuda" else None
            distributed.barrier(device_ids=own)


ALONE = Share()


def device_kind(asked: str) -> str:
    """Return "cuda" or "cpu" for what was asked: one of them, or "auto", a GPU where there is one.

    RequestError for another word, and where a GPU is asked for that is not there.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise RequestError(f"--device {asked}: not known; choose auto, cpu or cuda")
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise RequestError("--device cuda: torch finds no GPU here; choose cpu or auto")
    return "cuda" if available and asked != "cpu" else "cpu"


@contextmanager
def joined(kind: str = "cpu") -> Iterator[Share]:
    """Join the other processes that torchrun's environment tells of; without it, be alone.

    kind: "cpu", or "cuda" for the GPU with the number of the process on its machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = _device(kind, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield Share(device=device)
        return
    with _joined(int(os.environ["RANK"]), size, "env://", device) as share:
        yield share


def start(count: int, work: Callable[[Share], Any], kind: str = "cpu") -> None:
    """Do `work`, which must travel by pickle, in `count` new processes of this machine.

    An error of a process ends the others and is raised here; they die with this process. With the
    kind "cuda" each has a GPU; RequestError where there are fewer.
    """
    if kind == "cuda" and count > torch.cuda.device_count():
        raise RequestError(
            f"--processes {count}: this machine has {torch.cuda.device_count()} GPUs; give fewer, "
            "or --device cpu"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RequestError("--processes: torchrun has started them already; leave the option out")
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        address = f"file://{folder}/store"
        arguments = (count, address, kind, torch.get_num_threads(), work, errors)
        try:
            spawn(_process, arguments, nprocs=count)
        except ProcessException as error:
            if errors.empty():
                raise
            raise errors.get() from error


def _process(
    rank: int,
    size: int,
    address: str,
    kind: str,
    threads: int,
    work: Callable[[Share], Any],
    errors: Any,
) -> None:
    """Be one of the processes; what goes wrong is handed to the one that started them."""
    torch.set_num_threads(threads)
    try:
        with _joined(rank, size, address, _device(kind, rank)) as share:
            work(share)
    except TrawlError as error:
        errors.put(error)
        raise SystemExit(1) from error


def _device(kind: str, local_rank: int) -> torch.device:
    """Return the device of a process; on a GPU, have torch take the same path every time."""
    if kind == "cpu":
        return _CPU
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may take others
    device = torch.device(kind, local_rank)
    torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return device


@contextmanager
def _joined(rank: int, size: int, address: str, device: torch.device) -> Iterator[Share]:
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=address,
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    try:
        yield Share(rank, size, device)
    finally:
        distributed.destroy_process_group()
