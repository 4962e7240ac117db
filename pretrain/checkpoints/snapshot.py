"""A copy of the engine's state in host memory, taken between two steps and written at leisure.

DeepSpeed's own checkpoint engines that write aside cannot load what they saved (fast, decoupled:
0.19.8); this one takes the place of the default while DeepSpeed collects the state, and what is
written afterwards is what the default would have written.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from torch import Tensor, nn

# A device's memory is read at full speed into pages that cannot be swapped out alone.
_PINNED = torch.cuda.is_available()


class HostSnapshot(CheckpointEngine):
    """Takes what DeepSpeed saves into host memory, by path."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None)
        self.name = "HostSnapshot"
        self._folder = folder
        self.files: dict[Path, Any] = {}

    def create(self, info: Any) -> None:
        """Nothing is prepared."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make the folder around the checkpoint's own, where DeepSpeed puts its scripts."""
        if Path(path) != self._folder:
            Path(path).mkdir(parents=True, exist_ok=exist_ok)

    def save(self, state_dict: Any, path: str) -> None:
        """Copy one file's content."""
        self.files[Path(path)] = to_host(state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        """Not this engine's part: a checkpoint is loaded by DeepSpeed's default one."""
        raise NotImplementedError(path)

    def commit(self, info: Any) -> bool:
        """Nothing is written yet."""
        return True


def take(engine: Any, folder: Path) -> dict[Path, Any]:
    """Return what DeepSpeed would write of `engine` into the checkpoint `folder`, by path.

    A collective: all ranks call it. Each gets its own files.
    """
    snapshot, default = HostSnapshot(folder), engine.checkpoint_engine
    engine.checkpoint_engine = snapshot
    try:
        engine.save_checkpoint(
            str(folder.parent),
            tag=folder.name,
            # Without this key no count of ranks but the same could load stages 1 and 2.
            client_state={"universal_checkpoint_info": {"universal_checkpoint_version": 0.4}},
            # `latest` would name the checkpoint before the other ranks' shards are there.
            save_latest=False,
        )
    finally:
        engine.checkpoint_engine = default
    if _PINNED:
        torch.cuda.synchronize()
    return snapshot.files


def to_host(state: Any) -> Any:
    """Return a copy of nested containers whose tensors lie in host memory.

    Tensors that share memory do so in the copy, which therefore is written as the original would
    be. Copies from a device are under way when this returns.
    """
    storages: dict[int, torch.UntypedStorage] = {}
    memo: dict[int, Any] = {id(tensor): _host(tensor, storages) for tensor in _tensors(state)}
    return copy.deepcopy(state, memo)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _host(tensor: Tensor, storages: dict[int, torch.UntypedStorage]) -> Tensor:
    whole = tensor.untyped_storage()
    if whole._cdata not in storages:
        fresh = torch.empty(whole.nbytes(), dtype=torch.uint8, pin_memory=_PINNED)
        source = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(whole)
        storages[whole._cdata] = fresh.copy_(source, non_blocking=_PINNED).untyped_storage()
    view = torch.empty(0, dtype=tensor.dtype).set_(
        storages[whole._cdata], tensor.storage_offset(), tensor.size(), tensor.stride()
    )
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(view, requires_grad=tensor.requires_grad)
    return view.requires_grad_(tensor.requires_grad)
