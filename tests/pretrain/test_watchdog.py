"""The watchdog alone: a rank that does not come to a collective, and what is said of it."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from pretrain.exit_codes import ExitCode
from pretrain.ranks import join
from pretrain.run_folder import RunFolder
from pretrain.watch_run import watching
from pretrain.watchdog import Beat, Place, explain
from tests.pretrain import runs

PATIENCE = 4.0


def _rank(rank: int, folder: str) -> None:
    """Rank 0 waits in a barrier for rank 1, which never comes."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text()}
    # As every rank of a run, it outlives its launcher's SIGTERM until the cause is told.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ |= {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    ranks = join()
    with watching(RunFolder(folder), ranks, silent_seconds=60) as watchdog:
        with watchdog.expecting(PATIENCE):
            watchdog.beat("computing step 7")
            if ranks.first:
                ranks.barrier()
            time.sleep(600)


@pytest.mark.slow
def test_a_rank_that_does_not_come_is_named_and_all_end(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    (tmp_path / "logs").mkdir()
    with pytest.raises(ProcessExitedException) as ended:
        spawn(_rank, (str(tmp_path),), nprocs=2)
    assert ended.value.exit_code == ExitCode.BAD_NODE
    (event,) = runs.events(tmp_path, "run-stopped")
    assert event["code"] == ExitCode.BAD_NODE
    assert event["message"].startswith("rank 1 made no progress for 4 s at ")
    assert "while computing step 7" in event["message"]
    assert "waiting for it: rank 0 in barrier" in event["message"]
    stacks = (tmp_path / "logs" / "0.log").read_text()
    assert "watchdog: no progress while computing step 7" in stacks
    assert "ranks.py" in stacks


def _beat(rank: int, **changes: Any) -> Beat:
    fields = {"ticks": 3, "progress": 2, "doing": "saving step 4", "limit": 9.0, "host": "n1"}
    return Beat(rank=rank, **{**fields, "pid": 70 + rank, "parent": 7, **changes})


def test_the_one_line_of_each_kind_of_hang() -> None:
    waiting = [Place(rank, "all_reduce", "pretrain/ranks.py:1 in total") for rank in (0, 2)]
    beats = {rank: _beat(rank) for rank in range(3)}
    assert explain([beats[1]], waiting, beats, 0.0, 120) == (
        "rank 1 gave no sign of life for 120 s (n1, process 71, while saving step 4): stopped, or "
        "its machine is gone; waiting for it: ranks 0, 2 in all_reduce"
    )
    stuck = Place(1, None, "pretrain/feeding.py:9 in portions")
    assert explain([], [*waiting, stuck], beats, 9.0, 120) == (
        "rank 1 made no progress for 9 s at pretrain/feeding.py:9 in portions (n1, while saving "
        "step 4); waiting for it: ranks 0, 2 in all_reduce; the stacks are in the logs"
    )
    assert "all are in the same collective: network or device (rank 0 in all_reduce, " in explain(
        [], waiting, beats, 9.0, 120
    )
    apart = [waiting[0], Place(1, "barrier", "pretrain/ranks.py:2 in barrier")]
    assert "all are in different collectives" in explain([], apart, beats, 9.0, 120)
