"""Jobs of real trainings that went some way or other, their ranks forked so that a run is cheap.

The ranks, what befalls them, and all that they write are real; the job's folder is filled by the
same functions as a machine's agent and the supervisor fill it.
"""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launch import attempts
from launch.attempts import NodeEnding
from launch.job import Job, Retry, Work
from launch.node import last_words
from launch.place import Place
from launch.progress import progress_of
from pretrain.local_launch import together
from tests.pretrain import forked, runs

Disturbance = Callable[[forked.Ranks], bool | None]


def attempt(
    folder: Path, content: Mapping[str, Any], disturb: Disturbance | None = None, count: int = 2
) -> int:
    """Run a recipe's ranks as the next attempt of the job in `folder`, and return its exit code.

    disturb: does something to the ranks; returns true if it told all of them to stop.
    """
    recipe = runs.write_recipe(folder.with_suffix(".yaml"), content)
    job = Job(
        name=folder.name,
        run=Work(pretrain=str(recipe)),
        place=Place(processes=count),
        retry=Retry(preempted=0, bad_node=0),
    )
    if not (folder / "job.yaml").exists():
        attempts.submit(folder, job)
    number = attempts.newest(folder) + 1
    assert attempts.begin(folder, number, progress_of(job))
    words = folder.with_name(f"{folder.name}-endings-{number}")
    words.mkdir()
    ranks = forked.Ranks(recipe, count, environment={"TRAWL_ENDINGS": str(words)})
    stopped = disturb is not None and disturb(ranks) is True
    exits = {rank: code or 0 for rank, code in enumerate(ranks.wait())}
    ending = together(words, exits, stopped)
    log = attempts.log_of(folder, number, 0)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(ranks.said + (f"trawl: {ending.message}\n" if ending.message else ""))
    told = NodeEnding(0, socket.gethostname(), int(ending.code), last_words(log))
    attempts.write_ending(folder, number, told)
    attempts.end(folder, number, int(ending.code), progress_of(job))
    return int(ending.code)
