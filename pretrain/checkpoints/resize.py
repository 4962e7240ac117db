"""A checkpoint for another count of ranks: DeepSpeed's universal form, made when it is needed.

It takes as much room again as the checkpoint, so it is made of one checkpoint alone, at the resume,
and deleted once it is loaded.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pretrain.checkpoints.resume import Checkpoint
from pretrain.ranks import Ranks
from pretrain.run_folder import RunFolder
from trawl.errors import WorkError

# What tells a process its place among ranks; the conversion has none.
_PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def needed(checkpoint: Checkpoint | None, zero_stage: int, ranks: Ranks) -> bool:
    """Return whether `checkpoint` must be converted; that of ZeRO 0 is whole on each rank."""
    return checkpoint is not None and zero_stage > 0 and checkpoint.world_size != ranks.size


@contextmanager
def universal(checkpoint: Checkpoint, run: RunFolder, ranks: Ranks) -> Iterator[Path]:
    """Give the folder of the universal form of `checkpoint` while the block lasts.

    A collective; the first rank makes it, of each machine where machines share no folder. Raises
    WorkError on all ranks if DeepSpeed cannot convert it.
    """
    folder = run.local / "universal" / checkpoint.folder.name
    makes = ranks.first_in(run.remote)
    problem = _convert(checkpoint.folder, folder) if makes else None
    problems = [each for each in ranks.gather(problem) if each is not None]
    if problems:
        raise WorkError(f"{checkpoint.folder}: not to be had for {ranks.size} ranks: {problems[0]}")
    try:
        yield folder
        ranks.barrier()
    finally:
        if makes:
            shutil.rmtree(folder.parent, ignore_errors=True)


def _convert(source: Path, target: Path) -> str | None:
    """Convert the checkpoint `source`; return what went wrong, or None."""
    shutil.rmtree(target.parent, ignore_errors=True)
    target.mkdir(parents=True)
    workers = str(min(4, os.cpu_count() or 1))
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(source), "--output_folder", str(target)]
    command += ["--num_extract_workers", workers, "--num_merge_workers", workers]
    environment = {name: value for name, value in os.environ.items() if name not in _PLACE}
    # The files alone are dealt with: no device is needed, and none is taken from the ranks.
    environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    return None
