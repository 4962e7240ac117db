"""The plan of a pretraining, and the memory that it promises against that of a real engine."""

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import spawn
from typer.testing import CliRunner

from pretrain import engine, memory
from pretrain.cli import pretrain
from pretrain.ranks import join
from pretrain.recipe import StageRecipe
from tests.pretrain import runs
from tests.pretrain.conftest import Corpora

KINDS = [(zero, precision) for zero in memory.ZERO_STAGES for precision in ("fp32", "bf16")]


def _planned(path: Path, *options: str) -> str:
    done = CliRunner().invoke(pretrain, ["plan", str(path), *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_plan_of_a_recipe(corpora: Corpora, tmp_path: Path) -> None:
    content = runs.recipe(corpora.web, corpora.clean, str(tmp_path / "run"))
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    said = _planned(path, "--gpus", "2", "--gpu", "H100", "--mfu", "0.5", "--price", "2")
    assert said.count("stage ") == 2
    assert "mean of 64 samples" in said
    assert "masked tokens" in said
    assert "the loader must give" in said
    assert "on 2 H100 at MFU 0.5" in said
    assert re.search(r"^    4 +0\.00 +0\.00\* +0\.00 +0\.00$", said, re.MULTILINE)
    assert '"gradient_accumulation_steps": 1' in said
    assert "all stages: " in said
    assert ", costs " in said
    assert not (tmp_path / "run").exists()


def test_a_plan_without_its_corpora_takes_the_longest_sample(tmp_path: Path) -> None:
    content = runs.recipe("nowhere", "nowhere", str(tmp_path / "run"))
    content["model"] = {"size": "base"}
    content["tokenizer"] = {"vocabulary": 30522}
    content["stages"] = content["stages"][:1]
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    said = _planned(path, "--gpus", "1")
    # BERT-base of Oscar: 12 layers, 30,522 words, regions of 2,054 numbers, and the heads.
    assert "stage out: 111,684,668 parameters" in said
    assert "35 tokens, 50 regions, the longest (nowhere: " in said
    # 6 operations a parameter of the layers and token: 6 * 85,054,464 * 85, and the rest.
    gflop = float(said.split("arithmetic: ")[1].split(" GFLOP")[0])
    assert gflop == pytest.approx(6 * 85.054464e6 * 85 / 1e9, rel=0.06)


def test_a_plan_refuses_what_a_run_would_refuse(corpora: Corpora, tmp_path: Path) -> None:
    content = runs.recipe(corpora.web, corpora.clean, str(tmp_path / "run"))
    path = runs.write_recipe(tmp_path / "r.yaml", content)
    for options, said in (
        (["--gpus", "3"], "batch.samples 8 does not divide by 3 ranks of micro-batches of 4"),
        (["--gpus", "2", "--gpu", "TPU"], "--gpu TPU: its peak is not known"),
        (["--stage", "no"], "no stage no; --stage takes out, in"),
    ):
        done = CliRunner().invoke(pretrain, ["plan", str(path), *options])
        assert done.exception is not None
        assert said in str(done.exception)


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _rank(rank: int, folder: str) -> None:
    """Leave the bytes of weights and optimizer that an engine keeps under each of KINDS."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text()}
    os.environ |= {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    ranks = join()
    found = {}
    for zero, precision in KINDS:
        stage = StageRecipe.model_validate(
            {
                "name": "s",
                "data": [{"corpus": "c"}],
                "objectives": {"mlm": 1.0},
                "steps": 1,
                "batch": {"samples": 2},
                "deepspeed": f"zero{zero}",
                "precision": precision,
            }
        )
        model = nn.Sequential(nn.Linear(512, 1024), nn.Linear(1024, 512))
        wrapped = engine.start(model, stage, 1, ranks)
        inputs = torch.ones(1, 512, dtype=torch.bfloat16 if precision == "bf16" else None)
        wrapped.backward(wrapped(inputs).float().square().mean())
        engine.take_step(wrapped, engine.gradient_norm(wrapped))
        outer = wrapped.optimizer
        inner = getattr(outer, "optimizer", outer)
        moments = [value for state in inner.state.values() for value in state.values()]
        weights = [getattr(each, "ds_tensor", each) for each in wrapped.module.parameters()]
        copies = getattr(outer, "fp32_partitioned_groups_flat", None)
        copies = copies or getattr(outer, "single_partition_of_fp32_groups", None)
        copies = copies or [each for group in getattr(outer, "fp32_groups", []) for each in group]
        found[zero, precision] = _bytes(weights), _bytes([*moments, *copies])
        wrapped.destroy()
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_states_of_a_model_take_what_the_closed_form_says(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    spawn(_rank, (str(tmp_path),), nprocs=2)
    parameters = 2 * 512 * 1024 + 1024 + 512
    for rank in range(2):
        for (zero, precision), found in torch.load(tmp_path / f"{rank}.pt").items():
            weights, optimizer = found
            states = memory.states(parameters, 2, zero, precision, offload=False)
            assert weights == pytest.approx(states.weights, rel=0.01), (zero, precision)
            assert optimizer == pytest.approx(states.optimizer, rel=0.01), (zero, precision)
    offloaded = memory.states(parameters, 2, 2, "bf16", offload=True)
    assert offloaded.on_device == parameters * 3
    assert offloaded.on_host == parameters * 6
