"""Resuming a run: the newest whole checkpoint is found, torn ones are named and passed over."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretrain.checkpoints import manifest
from pretrain.checkpoints.save import rank_state
from pretrain.ranks import Ranks
from pretrain.run_folder import COMPLETE, RunFolder
from trawl import storage
from trawl.errors import RequestError, TrawlError, WorkError


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps of its stage that were done."""
        return int(self.manifest["step"])

    @property
    def world_size(self) -> int:
        """Ranks that saved it."""
        return int(self.manifest["world_size"])


@dataclass(frozen=True)
class Search:
    """What was found: the newest whole checkpoint, and newer ones that are torn, with reasons."""

    found: Checkpoint | None
    torn: list[tuple[str, str]]


def newest(run: RunFolder, stage: str) -> Search:
    """Return the newest whole checkpoint of `stage`, here or, if not here, in the object store."""
    folder = run.checkpoints(stage)
    names = {path.name for path in folder.glob("step-*") if path.is_dir()}
    if run.remote:
        twin = run.twin(folder)
        uris = storage.list_files(twin)
        names |= {uri.removeprefix(twin + "/").split("/")[0] for uri in uris}
    torn: list[tuple[str, str]] = []
    for name in sorted((name for name in names if name.startswith("step-")), reverse=True):
        here = folder / name
        problem = problem_of(here)
        if problem and run.remote and storage.exists(run.twin(here / COMPLETE)):
            run.fetch_folder(here)
            problem = problem_of(here)
        if problem is None:
            return Search(Checkpoint(here, manifest.read(here)), torn)
        torn.append((str(here), problem))
    return Search(None, torn)


def at(path: Path) -> Checkpoint:
    """Return the checkpoint in the folder `path`; RequestError if it is not a whole one."""
    if problem := problem_of(path):
        raise RequestError(f"--resume {path}: {problem}; name another checkpoint, or auto")
    return Checkpoint(path, manifest.read(path))


def problem_of(folder: Path) -> str | None:
    """Return what keeps `folder` from being a whole checkpoint, or None if it is one."""
    mark = folder / COMPLETE
    if not mark.exists():
        return "it has no COMPLETE"
    try:
        content = manifest.read(folder)
    except TrawlError as error:
        return str(error)
    if mark.read_text(encoding="utf-8").strip() != content["sha256"]:
        return "COMPLETE belongs to another manifest"
    return manifest.check(folder, content, also=(COMPLETE,))


def load(engine: Any, checkpoint: Checkpoint, ranks: Ranks, converted: Path | None = None) -> None:
    """Load model, optimizer and random number generators from `checkpoint` into `engine`.

    `converted` is its universal form, for another count of ranks. Raises WorkError when DeepSpeed
    finds nothing: it would go on from scratch without a word.
    """
    folder = converted or checkpoint.folder
    with _own_groups(engine) if converted else nullcontext():
        loaded, _ = engine.load_checkpoint(str(folder.parent), tag=folder.name)
    if loaded is None:
        raise WorkError(f"{folder}: DeepSpeed could not load it")
    # Every pass seeds them anew; their states matter to what a rank drew besides, and to no other.
    if checkpoint.world_size == ranks.size:
        _load_rank_state(checkpoint, ranks)


@contextmanager
def _own_groups(engine: Any) -> Iterator[None]:
    """Undo what DeepSpeed 0.19.8 does to groups of parameters when it loads the universal form.

    Under ZeRO 3 all of them get the settings of the first, its weight decay and scale of the rate
    among them, and share one tensor that counts the steps, which every group's step then raises.
    """
    groups = engine.optimizer.param_groups
    settings = [{key: each[key] for key in each if key != "params"} for each in groups]
    yield
    if engine.zero_optimization_stage() < 3:
        return
    for group, own in zip(engine.optimizer.param_groups, settings, strict=True):
        group.update(own)
    for state in engine.optimizer.optimizer.state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()


def _load_rank_state(checkpoint: Checkpoint, ranks: Ranks) -> None:
    from safetensors import safe_open

    path = rank_state(checkpoint.folder, ranks.rank)
    with safe_open(path, "pt") as file:
        counters = json.loads(file.metadata()["counters"])
        if counters["step"] != checkpoint.step or counters["rank"] != ranks.rank:
            raise WorkError(
                f"{path}: belongs to step {counters['step']} of rank {counters['rank']}"
            )
        torch.set_rng_state(file.get_tensor("cpu"))
        if ranks.device.type == "cuda":
            torch.cuda.set_rng_state(file.get_tensor("cuda"), ranks.device)
