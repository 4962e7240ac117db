"""When a step is bad, as a function of what came before; and the same under every ZeRO stage."""

import math
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from pretrain import engine
from pretrain.batches.order import Place
from pretrain.exit_codes import NumericsError
from pretrain.feeding import Batch, Feed, Portion
from pretrain.guard_recipe import GuardRecipe, SpikeRecipe
from pretrain.guards import PASSED, Guard, RollbackError
from pretrain.measured import Measured
from pretrain.ranks import join
from pretrain.recipe import StageRecipe
from pretrain.stopping import StopSignal
from pretrain.trainer import BadStep, Trainer


def _guard(**settings: Any) -> Guard:
    return Guard(GuardRecipe.model_validate(settings), "s")


def test_what_is_not_finite_is_bad_and_nothing_else_without_a_spike_in_the_recipe() -> None:
    guard = _guard()
    for step in range(1, 100):
        guard.accept(step, 1.0, 1.0)
    assert guard.problem(True, 1e9, 1e9) is None
    assert guard.problem(False, 1.0, 1.0) == "the loss is not finite"
    assert guard.problem(True, 1.0, math.nan) == "the gradient is not finite"
    assert guard.problem(True, 1.0, None) is None


def test_a_spike_is_far_from_the_median_of_the_last_good_steps() -> None:
    spike = SpikeRecipe(deviations=10, window=16, least_steps=8)
    guard = _guard(spike=spike)
    losses = [1.7, 1.8, 1.9, 2.0, 2.1, 2.2, 2.3]
    for step, loss in enumerate(losses, 1):
        guard.accept(step, loss, 1.0)
        assert guard.problem(True, 100.0, 1.0) is None
    guard.accept(8, 2.0, 1.0)
    # The median is 2, the median absolute deviation 0.15: the bound is 2 + 10 * 0.2224.
    assert guard.problem(True, 4.2, 1.0) is None
    assert guard.problem(True, 4.3, 1.0) == "the loss 4.3 is a spike, above 4.224"
    assert "the gradient norm 1.02 is a spike" in str(guard.problem(True, 2.0, 1.02))
    # A resumed run knows the same from the metrics.
    again = _guard(spike=spike)
    lines = [{"loss": loss, "grad_norm": 1.0, "skipped": None} for loss in [*losses, 2.0]]
    again.restore({"step": step, **line} for step, line in enumerate(lines, 1))
    assert again == guard


def test_bad_steps_are_skipped_then_rolled_back_then_the_end() -> None:
    guard = _guard(skips=2, rollbacks=1)
    guard.skip(300, "bad")
    guard.skip(308, "bad")
    guard.skip(405, "bad")  # the first is more than a hundred steps ago
    with pytest.raises(RollbackError) as back:
        guard.skip(407, "bad")
    assert (back.value.first, back.value.last) == (208, 407)
    guard = _guard(skips=0, rollbacks=1)
    guard.rollbacks, guard.passed = 1, [range(208, 411)]
    assert guard.left_out(208)
    assert guard.left_out(410)
    assert not guard.left_out(411)
    guard.restore([{"step": 410, "loss": None, "grad_norm": None, "skipped": PASSED}])
    with pytest.raises(NumericsError, match="stage s, step 411: bad, after 0 skipped steps"):
        guard.skip(411, "bad")


STEPS, SAMPLES, MICRO_BATCH = 4, 8, 2
BAD = 2
PRESETS = [(f"zero{stage}", precision) for stage in range(4) for precision in ("fp32", "bf16")]


class _Order:
    def indices(self, start_sample: int, count: int) -> Sequence[Place]:
        return [(0, place, 0, place) for place in range(start_sample, start_sample + count)]


class _Maker:
    """Random vectors by position; one of the bad step's is not a number."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._rows = torch.randn(STEPS * SAMPLES, 6, generator=torch.Generator().manual_seed(3))
        # The last micro-batch but one: that of rank 1, before the last of the accumulation.
        self._rows[BAD * SAMPLES - 3] = torch.nan
        self._rows = self._rows.to(dtype)

    def make_stored(self, positions: Sequence[Place]) -> Batch:
        return {"input": self._rows[[place for *_, place in positions]]}


class _Watch:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.bad_steps: list[BadStep] = []
        self.steps: list[tuple[float, str | None]] = []

    def beat(self, doing: str, /) -> None:
        assert doing

    def ids(self, step: int, number: int) -> int:
        return step + number

    def bad(self, bad: BadStep, /) -> None:
        self.bad_steps.append(bad)

    def step(
        self, portion: Portion, measured: Measured, skipped: str | None, rate: float, seconds: float
    ) -> None:
        assert rate == 0.1
        self.steps.append((measured.loss, skipped))


def _losses(outputs: Tensor, _: Batch, __: Any) -> tuple[Tensor, dict[str, Tensor]]:
    loss = outputs.float().square().mean()
    return loss, {"mlm": loss.detach()}


def _train(preset: str, precision: str, passed: list[range], ranks: Any) -> dict[str, Any]:
    stage = StageRecipe.model_validate(
        {
            "name": "s",
            "data": [{"corpus": "c"}],
            "objectives": {"mlm": 1.0},
            "steps": STEPS,
            "batch": {"samples": SAMPLES, "micro_batch": MICRO_BATCH},
            "optimizer": {"lr": 0.1, "decay": "constant"},
            "deepspeed": preset,
            "precision": precision,
        }
    )
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    wrapped = engine.start(model, stage, MICRO_BATCH, ranks)
    guard = Guard(GuardRecipe(), "s", passed=passed)
    watch = _Watch()
    maker = _Maker(torch.float32 if precision == "fp32" else torch.bfloat16)
    Trainer(
        seed=0,
        stage=stage,
        engine=wrapped,
        feed=Feed(_Order(), maker, SAMPLES, MICRO_BATCH, ranks),
        compute_losses=_losses,
        ranks=ranks,
        stop=StopSignal(lambda reason: None),
        guard=guard,
        watch=watch,
        save=lambda step: None,
        every_steps=STEPS,
    ).train(0)
    from deepspeed.utils import safe_get_full_fp32_param

    whole = torch.clone if preset == "zero0" else safe_get_full_fp32_param
    weights = [whole(each).detach().clone() for each in wrapped.module.parameters()]
    wrapped.destroy()
    return {"steps": watch.steps, "bad": watch.bad_steps, "weights": weights}


def _rank(rank: int, folder: str) -> None:
    """Train under each of PRESETS past a bad step, found or known, and leave what came out."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text()}
    os.environ |= {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    ranks = join()
    for preset, precision in PRESETS:
        found = _train(preset, precision, [], ranks)
        known = _train(preset, precision, [range(BAD, BAD + 1)], ranks)
        torch.save((found, known), f"{folder}/{preset}-{precision}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two ranks left what they made of a bad step under each of PRESETS."""
    folder: Path = tmp_path_factory.mktemp("trained")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    spawn(_rank, (str(folder),), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "precision"), PRESETS)
def test_a_bad_step_on_one_rank_changes_no_model(
    trained: Path, preset: str, precision: str
) -> None:
    first, second = (
        torch.load(trained / f"{preset}-{precision}-{rank}.pt", weights_only=False)
        for rank in range(2)
    )
    for found, known in (first, second):
        (bad,) = found["bad"]
        assert isinstance(bad, BadStep)
        assert (bad.step, bad.problem, bad.again) == (2, "the loss is not finite", "reproducible")
        problem = "the loss is not finite"
        assert [skipped for _, skipped in found["steps"]] == [None, problem, None, None]
        assert [skipped for _, skipped in known["steps"]] == [None, PASSED, None, None]
        assert known["bad"] == []
        for step in (0, 2, 3):
            assert found["steps"][step] == known["steps"][step]
        for ours, other in zip(found["weights"], known["weights"], strict=True):
            assert torch.equal(ours, other)
    # The one rank that saw it says so; the other does as it does.
    assert [rank[0]["bad"][0].measured.bad for rank in (first, second)] == [[], [2]]
    for ours, other in zip(first[0]["weights"], second[0]["weights"], strict=True):
        assert torch.equal(ours, other)
