"""SIGTERM in every phase of a run: saved where there is something to save, and always in time."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrain.exit_codes import ExitCode, PreemptionError
from pretrain.feeding import Portion
from pretrain.obedience import ObedientFeed
from pretrain.ranks import Ranks
from pretrain.stopping import Budget, StopSignal
from tests.pretrain import forked, runs
from tests.pretrain.conftest import Corpora


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signals = StopSignal(lambda reason: None)
    yield signals
    signals.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def long_run(corpora: Corpora, run: Path, **checkpoint: Any) -> dict[str, Any]:
    """A recipe whose second stage does not end while a test lasts."""
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    content["stages"][1]["steps"] = 1_000_000
    content["stages"][1]["optimizer"]["decay"] = "constant"
    content["checkpoint"] |= {"every_steps": 1_000_000, **checkpoint}
    return content


def whole(run: Path) -> list[str]:
    return sorted(mark.parent.name for mark in (run / "checkpoints").rglob("COMPLETE"))


def test_a_stop_between_two_stages_or_in_the_second_is_obeyed(
    corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ranks = forked.Ranks(runs.write_recipe(tmp_path / "r.yaml", long_run(corpora, run)), 2)
    ranks.wait_for(lambda: (run / "stages" / "out" / "manifest.json").exists())
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [ExitCode.PREEMPTED] * 2, ranks.said
    done = [line["step"] for line in runs.lines(run) if line["stage"] == "in"]
    # All steps that were taken are saved.
    expected = ["step-00000008", *([f"step-{done[-1]:08d}"] if done else [])]
    assert whole(run) == sorted(expected)
    assert "told to stop" in ranks.said


def test_a_rank_that_waits_for_the_others_to_come_leaves_at_once(
    corpora: Corpora, tmp_path: Path
) -> None:
    path = runs.write_recipe(tmp_path / "r.yaml", long_run(corpora, tmp_path / "run"))
    ranks = forked.Ranks(path, 2, begin=1)
    (process,) = ranks.processes

    def listens() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    ranks.wait_for(listens)
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [ExitCode.PREEMPTED]
    assert "nothing was unsaved" in ranks.said


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_a_rank_that_hangs_ends_within_its_grace(
    corpora: Corpora, tmp_path: Path, seconds: float
) -> None:
    run = tmp_path / "run"
    content = long_run(corpora, run, grace_seconds=2.0)
    ranks = forked.Ranks(runs.write_recipe(tmp_path / "r.yaml", content), 2)
    ranks.wait_for(lambda: len(runs.lines(run)) > 10)
    ranks.signal(signal.SIGSTOP, only=1)
    # Later, its main thread is in a collective that never returns and runs no handler.
    time.sleep(seconds)
    ranks.signal(signal.SIGTERM, only=0)
    ranks.processes[0].join(forked.PATIENCE)
    assert ranks.processes[0].exitcode == ExitCode.PREEMPTED, ranks.said
    assert "not enough to end the step" in ranks.said
    ranks.signal(signal.SIGKILL)
    ranks.wait()
    assert whole(run) == ["step-00000008"]


def test_a_stop_cuts_an_evaluation_short_and_a_resume_makes_up_for_it(
    corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = long_run(corpora, run)
    content["stages"] = content["stages"][1:]
    content["evaluation"] = {"corpus": corpora.clean}
    # One that would take hours.
    content["watch"] = {"evaluate_steps": 3, "evaluate_samples": 10_000_000}
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    ranks = forked.Ranks(path, 2)
    ranks.wait_for(lambda: len(runs.lines(run)) == 2)
    time.sleep(0.5)  # it evaluates by now, and if not, what follows holds all the same
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [ExitCode.PREEMPTED] * 2, ranks.said
    steps = runs.lines(run)
    assert whole(run) == [f"step-{len(steps):08d}"]
    assert [line["held_out"] for line in steps] == [None] * len(steps)

    ranks = forked.Ranks(path, 2, "--set", "watch.evaluate_samples=8")
    ranks.wait_for(lambda: len(runs.lines(run)) >= 6)
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [ExitCode.PREEMPTED] * 2, ranks.said
    evaluated = [line["step"] for line in runs.lines(run)[:6] if line["held_out"]]
    assert evaluated == [3, 6]


class _Stalling:
    """A source whose third portion never comes."""

    def __init__(self) -> None:
        self.never = threading.Event()

    def first(self, step: int, number: int) -> int:
        return step

    def portions(self, start: int, stop: int) -> Iterator[Portion]:
        for step in range(start, stop):
            if step == 2:
                self.never.wait()
            yield Portion(step, [], 0.0)


def test_a_stop_is_obeyed_while_data_does_not_come(stop: StopSignal) -> None:
    saved: list[int] = []
    source = _Stalling()
    alone = Ranks(0, 0, 1, torch.device("cpu"))
    feed = ObedientFeed(source, "out", alone, stop, saved.append)
    steps = []

    def train() -> None:
        for portion in feed.portions(0, 5):
            steps.append(portion.step)
            if portion.step == 1:
                threading.Timer(0.1, signal.raise_signal, [signal.SIGTERM]).start()

    with pytest.raises(PreemptionError, match="saved step 2"):
        train()
    source.never.set()
    assert steps == [0, 1]
    assert saved == [2]


def test_a_grace_that_is_too_short_is_told_once() -> None:
    said: list[str] = []
    budget = Budget(10.0, said.append)
    budget.step(4.0)
    budget.saved(5.0)
    assert said == []
    budget.saved(7.0)
    budget.saved(7.0)
    (line,) = said
    assert "a step takes 4.0 s and a checkpoint 7.0 s" in line
    assert "checkpoint.grace_seconds" in line
