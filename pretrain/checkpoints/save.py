"""Saving a run while it goes on: a snapshot in memory, written, hashed and uploaded behind it.

Each rank writes its own files. They meet, in their background threads, before the manifest is made
of what all of them wrote, and COMPLETE comes last: killed at any moment, a folder is whole or has
no COMPLETE, and a later run passes it over.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from pretrain.checkpoints import manifest, snapshot
from pretrain.exit_codes import NodeError, PreemptionError
from pretrain.ranks import Ranks
from pretrain.recipe import CheckpointRecipe
from pretrain.run_folder import COMPLETE, RunFolder
from trawl import storage

T = TypeVar("T")


def tag(step: int) -> str:
    """Return the name of the folder of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


@dataclass(frozen=True)
class Written:
    """A checkpoint that is whole."""

    step: int
    folder: Path
    paused: float
    """Seconds for which the training stood still: the snapshot, and the wait for the last one."""
    seconds: float
    """Seconds from the snapshot's begin to COMPLETE."""


class Saver:
    """Saves checkpoints of one stage of a run; every rank calls it at the same step.

    `behind` are the ranks as their background threads speak with each other; `facts` is what the
    manifest says besides the files; `written` is called in the background thread when a checkpoint
    is whole.
    """

    def __init__(
        self,
        run: RunFolder,
        stage: str,
        behind: Ranks,
        recipe: CheckpointRecipe,
        facts: dict[str, Any],
        written: Callable[[Written], None],
    ) -> None:
        self._run, self._stage, self._ranks = run, stage, behind
        self._recipe, self._facts, self._written = recipe, facts, written
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        # With an object store each machine has a folder of its own, otherwise all share one.
        self._writes_here = behind.first_in(run.remote)

    def save(self, engine: Any, step: int) -> None:
        """Take a snapshot after `step` steps and have it written while the caller goes on.

        Raises NodeError, on all ranks alike, if the checkpoint before could not be written.
        """
        began = time.monotonic()
        self.wait()
        folder = self._run.checkpoints(self._stage) / tag(step)
        files = snapshot.take(engine, folder)
        states = rank_states(self._ranks)
        paused = time.monotonic() - began
        self._pending = self._thread.submit(self._write, folder, step, files, states, began, paused)

    def wait(self) -> None:
        """Return when the last checkpoint is whole; NodeError if it could not be written."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # The threads wait for each other, not for the ranks' main threads: this comes to an end
        # even when this rank alone has failed.
        try:
            self.wait()
        except Exception:
            # A run that stops says that its state is saved.
            if kind is None or issubclass(kind, PreemptionError):
                raise
        finally:
            self._thread.shutdown()

    def _write(
        self,
        folder: Path,
        step: int,
        files: dict[Path, Any],
        states: dict[str, torch.Tensor],
        began: float,
        paused: float,
    ) -> None:
        """Bring a snapshot to the disk and to the object store; in the background thread."""
        try:
            self._together(folder, lambda: self._make_room(folder))
            described = self._together(folder, lambda: self._own_files(folder, step, files, states))
        except NodeError:
            if self._writes_here:
                with contextlib.suppress(OSError):
                    discard(folder)
            raise
        files.clear()
        all_files: manifest.Files = {}
        for part in described:
            all_files |= part
        self._together(folder, lambda: self._seal(folder, step, all_files))
        self._together(folder, self._forget_old)
        self._written(Written(step, folder, paused, time.monotonic() - began))

    def _together(self, folder: Path, work: Callable[[], T]) -> list[T]:
        """Do `work` and return what all ranks' came to; NodeError on all if it failed on one.

        Every rank answers, whatever happens to it, for the others wait for its answer.
        """
        result, problem, fault = None, None, None
        try:
            result = work()
        except Exception as error:
            problem = _fault_of_disk(error)
            fault = None if problem else error
        answers = self._ranks.gather((result, problem, fault is not None))
        if fault is not None:
            raise fault
        for rank, (_, problem, broken) in enumerate(answers):
            if problem is not None or broken:
                reason = problem or "a fault of Trawl, see its log"
                raise NodeError(f"{folder}: rank {rank} could not write it ({reason})")
        return [result for result, _, _ in answers]

    def _make_room(self, folder: Path) -> None:
        if self._writes_here:
            self._run.check()
            discard(folder)
            folder.mkdir(parents=True)

    def _own_files(
        self, folder: Path, step: int, files: dict[Path, Any], states: dict[str, torch.Tensor]
    ) -> manifest.Files:
        """Write this rank's files, force them to the disk, hash and upload them."""
        for path, content in files.items():
            torch.save(content, path)
        paths = [*files, rank_state(folder, self._ranks.rank)]
        write_rank_state(paths[-1], states, self._ranks, self._stage, step)
        for path in paths:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        described = manifest.describe(folder, [path.name for path in paths])
        for path in paths:
            self._run.push(path)
        return described

    def _seal(self, folder: Path, step: int, files: manifest.Files) -> None:
        if not self._writes_here:
            return
        self._run.check()
        content = {
            "format": "trawl-checkpoint",
            "version": 1,
            "stage": self._stage,
            "step": step,
            "world_size": self._ranks.size,
            "files": files,
            **self._facts,
        }
        sealed = manifest.seal(content)
        storage.write_text(folder / manifest.NAME, manifest.text(sealed))
        storage.write_text(folder / COMPLETE, sealed["sha256"] + "\n")
        if self._ranks.first:
            self._run.push_small_files()
            self._run.push(folder / manifest.NAME)
            self._run.push(folder / COMPLETE)

    def _forget_old(self) -> None:
        """Delete whole checkpoints that the recipe does not keep, and torn ones before them."""
        folder = self._run.checkpoints(self._stage)
        if self._writes_here:
            self._run.check()
            there = {path.name: (path / COMPLETE).exists() for path in folder.glob("step-*")}
            for name in forgotten(there, self._recipe):
                discard(folder / name)
        if self._run.remote and self._ranks.first:
            self._run.check()
            twin = self._run.twin(folder)
            files = [uri.removeprefix(twin + "/") for uri in storage.list_files(twin)]
            there = {name.split("/")[0]: False for name in files}
            there |= {name.split("/")[0]: True for name in files if name.endswith("/" + COMPLETE)}
            for name in forgotten(there, self._recipe):
                storage.remove(storage.join(twin, name, COMPLETE))
                storage.remove(storage.join(twin, name))


def _fault_of_disk(error: Exception) -> str | None:
    """Return what is wrong with the disk, or the store, if `error` comes of that."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    # torch.save's words for it.
    marks = ("PytorchStreamWriter", "iostream error")
    return "is the disk full?" if any(mark in str(error) for mark in marks) else None


def forgotten(there: dict[str, bool], recipe: CheckpointRecipe) -> list[str]:
    """Return which of the checkpoints `there`, whole or not by name, are to be deleted."""
    whole = sorted(name for name, is_whole in there.items() if is_whole)
    kept = set(whole[-recipe.keep_last :])
    if recipe.keep_every is not None:
        kept |= {name for name in whole if int(name.split("-")[1]) % recipe.keep_every == 0}
    # A torn one after the newest whole one may be another run's that is not lost yet.
    return sorted(name for name in there if name not in kept and whole and name < whole[-1])


def discard(folder: Path) -> None:
    """Delete a checkpoint, COMPLETE first: a half-deleted one must not be taken for whole."""
    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def rank_states(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Return the states of this rank's random number generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state(ranks.local_rank)
    return states


def write_rank_state(
    path: Path, states: dict[str, torch.Tensor], ranks: Ranks, stage: str, step: int
) -> None:
    """Write one rank's counters, and the states of its random number generators.

    DeepSpeed keeps neither for the ranks after the first. safetensors, so that no pickle is read.
    """
    from safetensors.torch import save_file

    counters = {"rank": ranks.rank, "world_size": ranks.size, "stage": stage, "step": step}
    save_file(states, path, metadata={"counters": json.dumps(counters)})


def rank_state(folder: Path, rank: int) -> Path:
    """Return the file of `rank`'s state in a checkpoint."""
    return folder / f"rank_{rank:05d}.state"
