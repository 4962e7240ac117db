"""Checkpoints as they are written: copied in memory, kept as the recipe says, told if they fail."""

import io
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pretrain.checkpoints import resume, snapshot
from pretrain.checkpoints.save import Saver, Written, forgotten
from pretrain.exit_codes import NodeError
from pretrain.ranks import Ranks
from pretrain.recipe import CheckpointRecipe
from pretrain.run_folder import RunFolder

ALONE = Ranks(0, 0, 1, torch.device("cpu"))


def saved(state: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def test_a_snapshot_is_written_as_the_original_would_be_and_keeps_its_values() -> None:
    flat = torch.arange(12.0)
    weight = nn.Parameter(flat[:6].view(2, 3))
    state = {
        "module": OrderedDict(w=weight, view=flat[6:], again=flat[6:]),
        "groups": [{"lr": 0.1, "shape": torch.Size([2, 3]), "parts": (flat[::2], None)}],
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    copied = snapshot.to_host(state)
    before = saved(state)
    assert len(saved(copied)) == len(before)
    flat += 1
    state["groups"][0]["lr"] = 0.2
    read = torch.load(io.BytesIO(saved(copied)), weights_only=False)
    expected = torch.load(io.BytesIO(before), weights_only=False)
    assert read["groups"][0]["lr"] == 0.1
    assert torch.equal(read["module"]["w"], expected["module"]["w"])
    assert isinstance(read["module"]["w"], nn.Parameter)
    # What shared memory still does.
    assert read["module"]["view"].data_ptr() == read["module"]["again"].data_ptr()


class _Engine:
    """What of an engine a saver uses: it hands its state to the checkpoint engine it has."""

    def __init__(self) -> None:
        self.checkpoint_engine: Any = None
        self.weight = torch.zeros(4)

    def save_checkpoint(self, folder: str, tag: str, **_: Any) -> None:
        self.checkpoint_engine.makedirs(folder, exist_ok=True)
        self.checkpoint_engine.save({"w": self.weight}, f"{folder}/{tag}/model.pt")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture
def told() -> list[Written]:
    return []


@pytest.fixture
def saver(run: RunFolder, told: list[Written]) -> Iterator[Saver]:
    recipe = CheckpointRecipe(uri=run.uri, keep_last=2, keep_every=4)
    with Saver(run, "out", ALONE, recipe, {"recipe_sha256": ""}, told.append) as saver:
        yield saver


def test_the_training_goes_on_while_a_checkpoint_is_written(
    run: RunFolder, saver: Saver, told: list[Written]
) -> None:
    engine = _Engine()
    for step in range(1, 7):
        engine.weight += 1
        saver.save(engine, step)
        engine.weight += 100
    saver.wait()
    assert [written.step for written in told] == [1, 2, 3, 4, 5, 6]
    folder = run.checkpoints("out")
    assert sorted(path.name for path in folder.glob("step-*")) == [
        "step-00000004",
        "step-00000005",
        "step-00000006",
    ]
    found = resume.newest(run, "out").found
    assert found is not None
    assert torch.load(found.folder / "model.pt")["w"].tolist() == [506.0] * 4
    assert found.manifest["files"].keys() == {"model.pt", "rank_00000.state"}


def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing_half(
    run: RunFolder, saver: Saver
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    engine = _Engine()
    saver.save(engine, 1)
    saver.wait()
    engine.save_checkpoint = lambda folder, tag, **_: engine.checkpoint_engine.save(  # type: ignore[method-assign]
        {"w": engine.weight}, "/dev/full"
    )
    saver.save(engine, 2)
    with pytest.raises(NodeError, match=r"step-00000002: rank 0 could not write it"):
        saver.wait()
    assert [path.name for path in run.checkpoints("out").glob("step-*")] == ["step-00000001"]


def test_a_failed_write_is_told_at_the_next_checkpoint(run: RunFolder, saver: Saver) -> None:
    engine = _Engine()
    saver.save(engine, 1)
    saver.wait()
    folder = run.checkpoints("out")
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    engine.checkpoint_engine = SimpleNamespace()
    engine.save_checkpoint = lambda folder, tag, **_: None  # type: ignore[method-assign]
    saver.save(engine, 2)
    with pytest.raises(NodeError):
        saver.save(engine, 3)


def test_what_is_kept() -> None:
    def left(there: dict[str, bool], **keys: Any) -> list[str]:
        recipe = CheckpointRecipe(uri="run", **keys)
        return sorted(set(there) - set(forgotten(there, recipe)))

    names = {f"step-{step:08d}": True for step in (10, 20, 30, 40)}
    assert left(names, keep_last=1) == ["step-00000040"]
    assert left(names, keep_last=1, keep_every=20) == ["step-00000020", "step-00000040"]
    # A torn one counts for none that is kept, and goes once a whole one follows it.
    torn = {**names, "step-00000040": False, "step-00000015": False}
    assert left(torn, keep_last=1) == ["step-00000030", "step-00000040"]
    assert left({"step-00000010": False}, keep_last=1) == ["step-00000010"]
