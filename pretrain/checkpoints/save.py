"""Saving a run: DeepSpeed's files, every rank's state, a manifest, and COMPLETE last."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretrain.checkpoints import manifest
from pretrain.exit_codes import NodeError
from pretrain.ranks import Ranks
from pretrain.run_folder import RunFolder
from trawl import storage

COMPLETE = "COMPLETE"


def tag(step: int) -> str:
    """Return the name of the folder of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


@dataclass(frozen=True)
class Saver:
    """Saves checkpoints of one stage of a run; every rank calls it at the same step."""

    run: RunFolder
    stage: str
    ranks: Ranks
    keep_last: int
    facts: dict[str, Any]
    """What the manifest says besides the files: the recipe, the corpora."""

    def save(self, engine: Any, step: int) -> Path:
        """Write the checkpoint after `step` steps and return its folder once it is whole.

        Killed at any moment, the folder has no COMPLETE and a later run passes it over. Raises
        NodeError if the disk does not take it.
        """
        folder = self.run.checkpoints(self.stage) / tag(step)
        # With an object store each machine has a folder of its own, otherwise all share one.
        writes_here = self.ranks.first_here if self.run.remote else self.ranks.first
        try:
            if writes_here:
                discard(folder)
                folder.mkdir(parents=True)
            self.ranks.barrier()
            self._write(engine, folder, step)
            self.ranks.barrier()
            described = self._describe(folder) if writes_here else {}
            files: manifest.Files = {}
            for part in self.ranks.gather(described):
                files |= part
            if writes_here:
                self._seal(folder, step, files)
        except OSError as error:
            raise NodeError(f"{folder}: could not be written ({error.strerror})") from error
        except RuntimeError as error:
            # torch.save's word for a disk that takes no more.
            if "PytorchStreamWriter" in str(error):
                raise NodeError(f"{folder}: could not be written; is the disk full?") from error
            raise
        self.ranks.barrier()
        if writes_here:
            self._forget_old()
        return folder

    def _write(self, engine: Any, folder: Path, step: int) -> None:
        client_state = {"universal_checkpoint_info": {"universal_checkpoint_version": 0.4}}
        # DeepSpeed's own `latest` is written before the other ranks' shards: never asked for.
        engine.save_checkpoint(
            str(folder.parent), tag=folder.name, client_state=client_state, save_latest=False
        )
        write_rank_state(folder, self.ranks, self.stage, step)

    def _describe(self, folder: Path) -> manifest.Files:
        """Force every file to the disk, since DeepSpeed does not, and hash it; upload it."""
        names = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        for name in names:
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())
            self.run.push(folder / name)
        return manifest.describe(folder, names)

    def _seal(self, folder: Path, step: int, files: manifest.Files) -> None:
        content = {
            "format": "trawl-checkpoint",
            "version": 1,
            "stage": self.stage,
            "step": step,
            "world_size": self.ranks.size,
            "files": files,
            **self.facts,
        }
        sealed = manifest.seal(content)
        storage.write_text(folder / manifest.NAME, manifest.text(sealed))
        storage.write_text(folder / COMPLETE, sealed["sha256"] + "\n")
        if self.ranks.first:
            self.run.push_small_files()
            self.run.push(folder / manifest.NAME)
            self.run.push(folder / COMPLETE)

    def _forget_old(self) -> None:
        """Delete all but the newest checkpoints of the stage, here and in the object store."""
        folders = sorted(self.run.checkpoints(self.stage).glob("step-*"))
        for folder in folders[: -self.keep_last]:
            discard(folder)
        if self.run.remote and self.ranks.first:
            twin = self.run.twin(self.run.checkpoints(self.stage))
            steps = sorted(
                {uri.removeprefix(twin + "/").split("/")[0] for uri in storage.list_files(twin)}
            )
            for name in steps[: -self.keep_last]:
                storage.remove(storage.join(twin, name, COMPLETE))
                storage.remove(storage.join(twin, name))


def discard(folder: Path) -> None:
    """Delete a checkpoint, COMPLETE first: a half-deleted one must not be taken for whole."""
    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def write_rank_state(folder: Path, ranks: Ranks, stage: str, step: int) -> None:
    """Write `rank_NNNNN.state`: counters, and the states of the random number generators.

    DeepSpeed keeps neither for the ranks after the first. safetensors, so that no pickle is read.
    """
    from safetensors.torch import save_file

    states = {"cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(ranks.device)
    counters = {"rank": ranks.rank, "world_size": ranks.size, "stage": stage, "step": step}
    save_file(states, rank_state(folder, ranks.rank), metadata={"counters": json.dumps(counters)})


def rank_state(folder: Path, rank: int) -> Path:
    """Return the file of `rank`'s state in a checkpoint."""
    return folder / f"rank_{rank:05d}.state"
