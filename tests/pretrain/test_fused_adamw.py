"""AdamW by other kernels than torch's: who is trusted, and that checkpoints go on with any of them.

DeepSpeed's operator for CPUs is compiled and run; apex's and DeepSpeed's for GPUs need one.
Parameters and moments agree with torch's within `fused_adamw.TOLERANCES`: 1e-6 of the largest
number, 2e-5 for the second moment. Losses of a run agree within 1e-5.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from pretrain import optimizers
from pretrain.kernels import selection
from pretrain.optimizers.fused_adamw import TOLERANCES, FusedAdamW, distances, obstacle, update_by
from pretrain.recipe import OptimizerRecipe
from tests.pretrain import built_operators, forked, runs
from tests.pretrain.conftest import Corpora
from trawl.errors import RequestError

Parts = list[tuple[Tensor, Tensor, Tensor, Tensor]]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    yield
    selection.override({})


def by_formula(parts: Parts, step: int, group: dict[str, Any]) -> None:
    """What apex and DeepSpeed compute: both moments corrected, the decay within the update."""
    first, second = group["betas"]
    for parameter, gradient, mean, square in parts:
        mean.mul_(first).add_(gradient, alpha=1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        corrected = mean / (1 - first**step)
        root = (square / (1 - second**step)).sqrt()
        update = corrected / (root + group["eps"]) + group["weight_decay"] * parameter
        parameter.sub_(update, alpha=group["lr"])


def coupled(parts: Parts, step: int, group: dict[str, Any]) -> None:
    """Adam with L2, as those kernels compute in their other mode."""
    decayed = [
        (parameter, gradient + group["weight_decay"] * parameter, *moments)
        for parameter, gradient, *moments in parts
    ]
    by_formula(decayed, step, {**group, "weight_decay": 0.0})


def late(parts: Parts, step: int, group: dict[str, Any]) -> None:
    """A step that is counted from 2."""
    by_formula(parts, step + 1, group)


def rooted(parts: Parts, step: int, group: dict[str, Any]) -> None:
    """Epsilon on the moment as it is, as transformers had it."""
    root = (1 - group["betas"][1] ** step) ** 0.5
    by_formula(parts, step, {**group, "eps": group["eps"] / root})


def inert(parts: Parts, step: int, group: dict[str, Any]) -> None:
    """A kernel that was never launched."""


def test_the_formula_of_the_kernels_is_torchs() -> None:
    assert all(apart <= TOLERANCES[part] for part, apart in distances(by_formula, "cpu").items())


@pytest.mark.parametrize("wrong", [coupled, late, rooted, inert])
def test_what_computes_something_else_is_found_out(wrong: Any) -> None:
    assert distances(wrong, "cpu")["parameters"] > 10 * TOLERANCES["parameters"]


def _model() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(5, 4)


def _train(model: nn.Module, optimizer: AdamW, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


def _made(kind: str, model: nn.Module) -> AdamW:
    groups = [
        {"params": [model.weight], "weight_decay": 0.1, "rate_scale": 1.0},
        {"params": [model.bias], "weight_decay": 0.0, "rate_scale": 1.0},
    ]
    settings: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8}
    if kind == "torch":
        return AdamW(groups, fused=True, **settings)
    return FusedAdamW(groups, by_formula, **settings)


@pytest.mark.parametrize("order", [("torch", "fused"), ("fused", "torch")])
def test_a_checkpoint_goes_on_with_either(order: tuple[str, str]) -> None:
    whole, halves = _model(), _model()
    _train(whole, _made("torch", whole), range(6))
    first = _made(order[0], halves)
    _train(halves, first, range(3))
    second = _made(order[1], halves)
    saved = first.state_dict()
    second.load_state_dict(saved)
    _train(halves, second, range(3, 6))
    torch.testing.assert_close(halves.weight, whole.weight, atol=1e-6, rtol=1e-6)
    again = second.state_dict()
    assert again["param_groups"] == saved["param_groups"]
    for number, state in saved["state"].items():
        kinds = {key: (value.dtype, value.shape) for key, value in state.items()}
        assert kinds == {key: (v.dtype, v.shape) for key, v in again["state"][number].items()}
    assert float(again["state"][0]["step"]) == 6


def test_parameters_that_saw_no_gradient_keep_their_own_count() -> None:
    models = _model(), _model()
    made = [_made(kind, model) for kind, model in zip(("torch", "fused"), models, strict=True)]
    for step in range(3):
        for model, optimizer in zip(models, made, strict=True):
            for each in model.parameters():
                each.grad = torch.full_like(each, 0.1 * (step + 1))
            if step == 0:
                model.bias.grad = None
            optimizer.step()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.fixture
def _without_apex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_installed", lambda module: module != "amp_C")


@pytest.mark.usefixtures("_without_apex")
def test_on_a_cpu_torchs_own_runs_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pretrain"):
        optimizer = optimizers.build(_model(), OptimizerRecipe())
    assert type(optimizer) is AdamW
    assert optimizer.defaults["fused"]
    assert "adamw by torch: apex needs amp_C, which is not installed" in caplog.text


def test_nothing_is_compiled_that_no_recipe_names() -> None:
    from deepspeed.git_version_info import installed_ops

    if installed_ops["cpu_adam"]:
        pytest.skip("this deepspeed was installed with its operator")
    assert "was not built (DS_BUILD_CPU_ADAM=1" in str(obstacle("deepspeed-cpu", "cpu", False))


@pytest.mark.usefixtures("_without_apex")
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("apex", "apex needs amp_C, which is not installed; leave the key out or take torch"),
        ("deepspeed", "deepspeed needs cuda; leave the key out or take torch"),
    ],
)
def test_what_is_asked_for_and_not_there_is_an_error(wanted: str, told: str) -> None:
    selection.override({"adamw": wanted})
    with pytest.raises(RequestError, match=rf"^kernels\.adamw: {told}$"):
        optimizers.build(_model(), OptimizerRecipe())


def test_one_that_is_not_equal_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from pretrain.optimizers import fused_adamw

    monkeypatch.setitem(fused_adamw._UPDATES, "deepspeed-cpu", lambda: coupled)
    fused_adamw.update_by.cache_clear()
    fused_adamw._difference.cache_clear()
    selection.override({"adamw": "deepspeed-cpu"})
    try:
        with pytest.raises(
            RequestError, match=r"kernels\.adamw: .* differs from torch in parameters by"
        ):
            optimizers.build(_model(), OptimizerRecipe())
    finally:
        fused_adamw.update_by.cache_clear()
        fused_adamw._difference.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["apex", "deepspeed"])
def test_on_a_gpu_the_kernels_are_torchs(name: str) -> None:
    wanted = next(each for each in selection.TABLE["adamw"] if each.name == name)
    if (problem := wanted.obstacle("cuda", "float32", asked=True)) is not None:
        pytest.skip(problem)
    found = distances(update_by(name), "cuda")
    assert all(apart <= TOLERANCES[part] for part, apart in found.items())


@pytest.mark.slow
def test_deepspeeds_operator_for_cpus_is_torchs_and_can_be_named(
    corpora: Corpora, tmp_path: Path
) -> None:
    """With offloaded states, on two ranks; resumed it goes on bit for bit, with torch's closely."""
    if (problem := built_operators.obstacle()) is not None:
        pytest.skip(problem)
    found = distances(update_by("deepspeed-cpu"), "cpu")
    assert all(apart <= TOLERANCES[part] for part, apart in found.items())
    losses, written = {}, {}
    for name in ("torch", "deepspeed-cpu"):
        run = tmp_path / name
        content = runs.recipe(corpora.web, corpora.clean, str(run))
        stage = content["stages"][0] | {
            "steps": 6,
            "deepspeed": "zero2-offload",
            "optimizer": {"lr": 1e-3},
            "kernels": {"adamw": name},
        }
        written[name] = runs.write_recipe(tmp_path / f"{name}.yaml", {**content, "stages": [stage]})
        forked.run(written[name], 2, environment=built_operators.ENVIRONMENT)
        assert f"adamw by {name}" in (run / "logs" / "0.log").read_text()
        losses[name] = forked.losses(run)
    assert losses["deepspeed-cpu"] == pytest.approx(losses["torch"], abs=1e-5)
    assert losses["torch"][-1] < losses["torch"][0]

    undisturbed = runs.exact(run)
    # As if the run had been lost after its third step.
    (run / "checkpoints" / "out" / "step-00000006" / "COMPLETE").unlink()
    (run / "stages").rename(tmp_path / "lost")
    forked.run(written[name], 2, environment=built_operators.ENVIRONMENT)
    assert runs.events(run, "resumed")[-1]["step"] == 3
    assert runs.exact(run) == undisturbed
