"""Which checkpoint a run goes on from."""

import shutil
from pathlib import Path

import pytest

from pretrain.checkpoints import resume
from pretrain.run_folder import RunFolder
from trawl.errors import RequestError


@pytest.fixture
def run(undisturbed: Path, tmp_path: Path) -> RunFolder:
    source = undisturbed / "checkpoints"
    shutil.copytree(source, tmp_path / "run" / "checkpoints")
    return RunFolder(str(tmp_path / "run"))


def test_the_newest_whole_one_is_taken(run: RunFolder) -> None:
    search = resume.newest(run, "out")
    assert search.found is not None
    assert search.found.step == 8
    assert search.torn == []


@pytest.mark.parametrize("damage", ["no mark", "no manifest", "cut", "flipped", "missing", "extra"])
def test_a_torn_one_is_named_and_passed_over(run: RunFolder, damage: str) -> None:
    newest = run.checkpoints("out") / "step-00000008"
    shard = newest / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    content = shard.read_bytes()
    if damage == "no mark":
        (newest / "COMPLETE").unlink()
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "cut":
        shard.write_bytes(content[:-1])
    elif damage == "flipped":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        shard.unlink()
    else:
        (newest / "other").write_text("")
    search = resume.newest(run, "out")
    assert search.found is not None
    assert search.found.step == 6
    ((folder, reason),) = search.torn
    assert folder == str(newest)
    if damage in ("cut", "flipped", "missing"):
        assert shard.name in reason


def test_no_checkpoint_is_no_resume(run: RunFolder) -> None:
    assert resume.newest(run, "other").found is None


def test_a_named_one_must_be_whole(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="COMPLETE"):
        resume.at(tmp_path)
    assert resume.at(run.checkpoints("in") / "step-00000003").step == 3
