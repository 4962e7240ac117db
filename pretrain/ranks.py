"""The ranks of a run: how a process joins them, speaks with them, and dies with its launcher."""

import datetime
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import distributed

from pretrain import flight_recorder
from pretrain.exit_codes import NodeError
from trawl.parent import die_with_parent

# A rank may write, evaluate or upload alone for this long while the others wait for it.
PATIENCE = datetime.timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """This process' place among the ranks."""

    rank: int
    local_rank: int
    size: int
    device: torch.device
    group: Any = None
    """The process group that they speak in; None: the one that all share."""

    def apart(self) -> "Ranks":
        """Return the same ranks with a line of their own, through the hosts alone.

        A second thread may speak on it while the first speaks on another. A collective.
        """
        if self.size == 1:
            return self
        group = distributed.new_group(backend="gloo", timeout=PATIENCE)
        return replace(self, group=group, device=torch.device("cpu"))

    @property
    def first_here(self) -> bool:
        """Whether this is the first rank of its machine."""
        return self.local_rank == 0

    def first_in(self, own_folders: bool) -> bool:
        """Whether this rank writes what the run's folder needs once.

        That is the first rank of each machine where each has a folder of its own, as with an object
        store; else the machines share one, and it is rank 0.
        """
        return self.first_here if own_folders else self.first

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes what only one may write."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            distributed.barrier(group=self.group)

    def total(self, values: list[float]) -> list[float]:
        """Return the sum of `values` over all ranks, place by place, in float64."""
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            distributed.all_reduce(summed, group=self.group)
        return summed.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the `value` of every rank, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self.group)
        return values

    def from_first(self, value: Any) -> Any:
        """Return rank 0's `value` on all ranks."""
        values = [value]
        if self.size > 1:
            distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]


def alone() -> Ranks:
    """Return this process as the only rank, which joins nobody."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return Ranks(0, 0, 1, torch.device(kind))


def die_with_launcher() -> None:
    """Have the kernel kill this process when the torchrun that started it dies, however it dies.

    torchrun starts each rank in a session of its own, so a `kill -9` of the launcher or of its
    process group would leave the ranks training on beside the run that replaces them.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent(int(os.environ.get("TRAWL_LAUNCHER", "0")) or None)


def join() -> Ranks:
    """Join the other ranks as torchrun's environment says: NCCL on GPUs, gloo without."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    _leave_out_shared_memory_op()
    # DeepSpeed reads these even where there is one rank and no launcher.
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(local_rank))
    backend = "nccl" if device.type == "cuda" else "gloo"
    flight_recorder.enable()
    # Alone, no address is needed to meet at.
    store = distributed.HashStore() if size == 1 else None
    try:
        distributed.init_process_group(
            backend, timeout=PATIENCE, store=store, rank=rank, world_size=size
        )
    except (RuntimeError, ValueError) as error:
        raise NodeError(f"rank {rank} could not join the others: {error}") from error
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
    return Ranks(rank, local_rank, size, device)


def _leave_out_shared_memory_op() -> None:
    """Keep DeepSpeed from compiling its shared-memory operator at the start of a CPU run.

    Inference alone uses it. It is built under a lock file that outlives a killed builder, after
    which every later start waits for the lock for ever; and it needs a C++ compiler.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def leave() -> None:
    """Close the connections to the other ranks."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
