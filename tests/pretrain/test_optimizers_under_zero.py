"""Our optimizers under DeepSpeed's ZeRO: the same numbers divided as whole, and after a resume."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from pretrain import engine, optimizers, presets
from pretrain.optimizers.bert_adam import BertAdam
from pretrain.optimizers.hf_adamw import HFAdamW
from pretrain.ranks import join
from pretrain.recipe import StageRecipe
from tests.pretrain import forked, runs
from tests.pretrain.conftest import Corpora
from trawl.errors import RequestError

KINDS = [("hf-adamw", f"zero{stage}") for stage in range(4)]
KINDS += [("bert-adam", f"zero{stage}") for stage in range(4)]
SCALES = [{"match": "^2", "scale": 2.0}]


def _stage(name: str, preset: str, **settings: object) -> StageRecipe:
    return StageRecipe.model_validate(
        {
            "name": "s",
            "data": [{"corpus": "c"}],
            "objectives": {"mlm": 1.0},
            "steps": 3,
            "batch": {"samples": 4, "micro_batch": 2},
            "optimizer": {"name": name, "clip": 0.0, **settings},
            "deepspeed": preset,
        }
    )


@pytest.mark.parametrize("name", ["hf-adamw", "bert-adam", "adamw"])
def test_deepspeed_is_told_that_our_optimizers_are_fit_for_zero(name: str) -> None:
    """adamw too: its step may be another's than torch's."""
    configured = presets.configuration(_stage(name, "zero1"), 2, 1)
    assert configured["zero_allow_untested_optimizer"] is True


def test_a_norm_of_each_parameter_is_refused_where_zero_cuts_them() -> None:
    with pytest.raises(
        RequestError, match=r"stage s: optimizer\.clip_each .* deepspeed_configs/zero1\.json"
    ):
        presets.configuration(_stage("bert-adam", "zero1", clip_each=1.0), 2, 1)
    assert presets.configuration(_stage("bert-adam", "zero0", clip_each=1.0), 2, 1)


def _model() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def _inputs() -> Tensor:
    return torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(6))


def _rank(rank: int, folder: str) -> None:
    """Train under each of KINDS, and leave the weights that come out."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text()}
    os.environ |= {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    ranks = join()
    from deepspeed.utils import safe_get_full_fp32_param

    for name, preset in KINDS:
        stage = _stage(name, preset, rate_scales=SCALES, weight_decay=0.1)
        wrapped = engine.start(_model(), stage, 2, ranks)
        for inputs in _inputs():
            engine.set_rate(wrapped, 0.05)
            wrapped.backward(wrapped(inputs[2 * rank : 2 * rank + 2]).square().mean())
            wrapped.step()
        read = safe_get_full_fp32_param if preset != "zero0" else torch.clone
        weights = [read(each).detach().clone() for each in wrapped.module.parameters()]
        torch.save(weights, f"{folder}/{name}-{preset}-{rank}.pt")
        wrapped.destroy()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two ranks left the weights that they learned under each of KINDS."""
    folder: Path = tmp_path_factory.mktemp("divided")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    spawn(_rank, (str(folder),), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), KINDS)
def test_zero_does_not_change_what_is_learned(divided: Path, name: str, preset: str) -> None:
    model = _model()
    recipe = _stage(name, preset, rate_scales=SCALES, weight_decay=0.1).optimizer
    optimizer = optimizers.build(model, recipe)
    assert isinstance(optimizer, HFAdamW | BertAdam)
    for inputs in _inputs():
        engine.set_rate(SimpleNamespace(optimizer=optimizer), 0.05)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    for rank in range(2):
        theirs = torch.load(divided / f"{name}-{preset}-{rank}.pt")
        for ours, other in zip(model.parameters(), theirs, strict=True):
            assert torch.allclose(ours, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_hf_adamw_resumes_bit_for_bit_under_zero(corpora: Corpora, tmp_path: Path) -> None:
    run = tmp_path / "run"
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    stage = content["stages"][0]
    stage["steps"] = 6
    stage["optimizer"] = {
        "name": "hf-adamw",
        "lr": 1e-3,
        "warmup_steps": 2,
        "decay": "linear-from-zero",
        "decay_groups": "oscar",
        "rate_scales": [{"match": "^cls", "scale": 2.0}],
    }
    content["stages"] = [stage]
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    forked.run(path, 2)
    undisturbed, published = runs.exact(run), runs.release(run / "stages" / "out")
    assert undisturbed[0]["lr"] == 0.0
    assert undisturbed[-1]["loss"] < undisturbed[0]["loss"]

    # As if the run had been lost after its third step.
    (run / "checkpoints" / "out" / "step-00000006" / "COMPLETE").unlink()
    (run / "stages").rename(tmp_path / "lost")
    forked.run(path, 2)
    assert runs.events(run, "resumed")[-1]["step"] == 3
    assert runs.exact(run) == undisturbed
    assert runs.release(run / "stages" / "out") == published
