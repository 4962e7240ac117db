"""How long a checkpoint keeps the training waiting: ours beside DeepSpeed's own, on one engine.

    python bench/checkpoint.py [--parameters MILLIONS] [--folder DIR]

Both save a model of fully connected layers under ZeRO 1 with AdamW on one rank, alternately, and
the medians of five are printed. DeepSpeed writes while it waits, and neither forces its files to
the disk nor hashes them; ours waits for a copy in memory, then writes, forces and hashes behind.
"""

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
import torch
from torch import nn

from pretrain.checkpoints.save import Saver, Written
from pretrain.ranks import Ranks, join, leave
from pretrain.recipe import CheckpointRecipe
from pretrain.run_folder import RunFolder

TIMES = 5
WIDTH = 1024


def engine_of(millions: int) -> Any:
    """Return an engine that has taken one step, so that its moments are there."""
    layers = max(1, millions * 10**6 // WIDTH**2)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 1}}
    optimizer = torch.optim.AdamW(model.parameters())
    engine = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
    engine.backward(engine(torch.ones(1, WIDTH)).sum())
    engine.step()
    return engine


def main() -> None:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=30, help="millions of parameters")
    parser.add_argument("--folder", type=Path, help="where to write; nothing: a temporary folder")
    options = parser.parse_args()
    ranks = join()
    engine = engine_of(options.parameters)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        theirs, ours = measure(engine, Path(place), ranks)
    leave()
    waits = statistics.median(written.paused for written in ours)
    wholes = statistics.median(written.seconds for written in ours)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{options.parameters} M parameters, ZeRO 1, one rank, medians of {TIMES}, {peak:.1f} GiB"
    )
    print(f"DeepSpeed's save_checkpoint keeps waiting   {statistics.median(theirs):7.3f} s")
    print(f"ours keeps waiting                          {waits:7.3f} s")
    print(f"ours is whole, forced and hashed, after     {wholes:7.3f} s")
    print(f"wait, ours / DeepSpeed's                    {waits / statistics.median(theirs):7.2f}")


def measure(engine: Any, place: Path, ranks: Ranks) -> tuple[list[float], list[Written]]:
    """Return the seconds of DeepSpeed's checkpoints, and ours."""
    theirs: list[float] = []
    ours: list[Written] = []
    recipe = CheckpointRecipe(uri=str(place / "ours"), keep_last=1)
    with Saver(RunFolder(recipe.uri), "bench", ranks, recipe, {}, ours.append) as saver:
        for step in range(1, TIMES + 1):
            began = time.monotonic()
            engine.save_checkpoint(str(place / "theirs"), tag="theirs", save_latest=False)
            theirs.append(time.monotonic() - began)
            shutil.rmtree(place / "theirs")
            saver.save(engine, step)
            saver.wait()
    return theirs, ours


if __name__ == "__main__":
    main()
