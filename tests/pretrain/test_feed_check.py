"""The check of the feed: what it measures on a real corpus, and what it says."""

from pathlib import Path

import pytest

from pretrain.feed_check import Verdict, check
from pretrain.recipe import PretrainRecipe
from tests.pretrain import runs, tiny_corpus


def _verdict(**changes: float) -> Verdict:
    figures = {"cold": 9e4, "hot": 5e4, "made": 2e4, "bytes": 2e5, "cores": 4, "in_memory": False}
    return Verdict(gpus=8, needed=1e4, **{**figures, **changes})  # type: ignore[arg-type]


def test_gpus_are_fed_where_storage_and_cores_suffice() -> None:
    assert _verdict().faults() == []
    assert _verdict().cores_needed == 4
    (slow,) = _verdict(cold=7e4).faults()
    assert "70,000 of 80,000 samples/s" in slow
    assert _verdict(cold=7e4, in_memory=True).faults() == []
    (few,) = _verdict(made=1e4).faults()
    assert "8.0 cores, and the machine has 4" in few
    assert len(list(_verdict(made=1e3).lines())) == 5
    assert "feeding.workers: 10 for each GPU" in "".join(_verdict(made=1e3).lines())


def test_a_corpus_is_measured(tmp_path: Path) -> None:
    web = tiny_corpus.write(tmp_path / "web", "web", 64)
    recipe = PretrainRecipe.model_validate(runs.recipe(web, web, str(tmp_path / "run")))
    verdict = check(recipe, recipe.stages[1], 2, 1.0)
    assert min(verdict.cold, verdict.hot, verdict.made) > 1
    assert verdict.hot > verdict.made
    assert verdict.bytes == pytest.approx(
        sum(shard.stat().st_size for shard in (tmp_path / "web" / "shards").glob("*.tar")) / 64
    )
    assert verdict.faults() == []
    assert not (tmp_path / "run").exists()
