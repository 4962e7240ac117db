"""How long a checkpoint keeps the training waiting: ours beside DeepSpeed's own, on one engine.

    python bench/checkpoint.py [--parameters MILLIONS] [--folder DIR]

Wall seconds, and CPU seconds of the thread that trains, which mean something on a busy machine too.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


class Cost(NamedTuple):
    """What a call took of the thread that made it."""

    wall: float
    cpu: float


def cost(call: Callable[[], object]) -> Cost:
    """Make a call and return what it took."""
    wall, cpu = time.monotonic(), time.thread_time()
    call()
    return Cost(time.monotonic() - wall, time.thread_time() - cpu)


def medians(costs: list[Cost]) -> Cost:
    """Return the medians of each kind."""
    return Cost(*map(statistics.median, zip(*costs, strict=True)))


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
        measured = measure(engine, Path(place), ranks)
    leave()
    theirs, ours = map(medians, measured[:2])
    whole = statistics.median(written.seconds for written in measured[2])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{options.parameters} M parameters, ZeRO 1, one rank, medians of {TIMES}, {peak:.1f} GiB"
    )
    print(f"DeepSpeed's save_checkpoint  wall {theirs.wall:7.3f} s  CPU {theirs.cpu:7.3f} s")
    print(f"ours                         wall {ours.wall:7.3f} s  CPU {ours.cpu:7.3f} s")
    print(
        f"ours / DeepSpeed's           wall {ours.wall / theirs.wall:7.2f}    CPU "
        f"{ours.cpu / theirs.cpu:7.2f}"
    )
    print(f"ours is whole, forced to the disk and hashed, after {whole:.3f} s")


def measure(engine: Any, place: Path, ranks: Ranks) -> tuple[list[Cost], list[Cost], list[Written]]:
    """Return what DeepSpeed's checkpoints and ours cost the training, and how long ours took."""
    theirs: list[Cost] = []
    ours: list[Cost] = []
    whole: list[Written] = []
    recipe = CheckpointRecipe(uri=str(place / "ours"), keep_last=1)
    with Saver(RunFolder(recipe.uri), "bench", ranks, recipe, {}, whole.append) as saver:
        for step in range(1, TIMES + 1):
            kept = partial(engine.save_checkpoint, str(place / "theirs"), "theirs")
            theirs.append(cost(partial(kept, save_latest=False)))
            shutil.rmtree(place / "theirs")
            ours.append(cost(partial(saver.save, engine, step)))
            saver.wait()
    return theirs, ours, whole


if __name__ == "__main__":
    main()
