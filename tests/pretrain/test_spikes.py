"""A run that meets spikes: skipped, rolled back past, and at last the end; and one replayed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from data_pipeline.corpus.reader import Corpus
from pretrain import construction, ledger
from pretrain.batches.order import Position, SampleOrder
from pretrain.checkpoints.module import load_module
from pretrain.cli import pretrain
from pretrain.exit_codes import ExitCode
from pretrain.guards import PASSED
from pretrain.ranks import alone
from pretrain.recipe import PretrainRecipe
from pretrain.replay import replay
from pretrain.run_folder import RunFolder
from tests.pretrain import forked, runs, tiny_corpus
from trawl import recipe as recipes

SAMPLES = 4
# Steps with a sample whose features are a hundred times too large. One in a row is passed over;
# with the second the run goes back to the checkpoint before both, of which there is one every
# eleven steps; and the third time that it happens is the end.
LOUD = (12, 17, 24, 30, 32, 35)
EVERY = 11
ROLLBACKS = [(11, 12, 17), (22, 24, 30)]
"""The checkpoint that is gone back to, and the two steps that lead there."""


@dataclass(frozen=True)
class Spiked:
    run: Path
    corpus: str
    codes: list[int | None]
    said: str
    loud: dict[int, str]
    """Key of the loud sample of each step of LOUD."""

    @property
    def lines(self) -> dict[int, dict[str, Any]]:
        return {line["step"]: line for line in runs.lines(self.run)}


def recipe(corpus: str, run: Path) -> dict[str, Any]:
    content = runs.recipe(corpus, corpus, str(run))
    content["model"]["config"] |= {"feature_head": True, "region_mask_probability": 1.0}
    stage = content["stages"][0]
    stage |= {"steps": 40, "objectives": {"mlm": 1.0, "mrfr": 0.1}}
    stage["batch"] = {"samples": SAMPLES, "micro_batch": 1}
    content["stages"] = [stage]
    content["checkpoint"] |= {"every_steps": EVERY, "keep_last": 9}
    content["guards"] = {"skips": 1, "rollbacks": 2, "spike": {"least_steps": 8}}
    content["watch"] = {"checksum_steps": 1}
    return content


def places(corpus: str, step: int) -> list[Position]:
    order = SampleOrder([len(Corpus(corpus))], [1.0], 0, "out")
    return order.indices((step - 1) * SAMPLES, SAMPLES)


@pytest.fixture(scope="module")
def spiked(tmp_path_factory: pytest.TempPathFactory) -> Spiked:
    folder = tmp_path_factory.mktemp("spiked")
    quiet = Corpus(tiny_corpus.write(folder / "quiet", "web", 160))
    keys = {step: quiet[places(quiet.uri, step)[1].sample].key for step in LOUD}
    numbers = {tiny_corpus.key("web", number): number for number in range(160)}
    loud = frozenset(numbers[key] for key in keys.values())
    corpus = tiny_corpus.write(folder / "loud", "web", 160, loud=loud)
    path = runs.write_recipe(folder / "r.yaml", recipe(corpus, folder / "run"))
    ranks = forked.Ranks(path, 2)
    codes = ranks.wait()
    return Spiked(folder / "run", corpus, codes, ranks.said, keys)


def test_a_spike_is_named_kept_and_skipped(spiked: Spiked) -> None:
    events = runs.events(spiked.run, "bad-step")
    assert [event["step"] for event in events] == list(LOUD)
    for event in events:
        assert "is a spike, above" in event["problem"]
        assert event["again"] == "reproducible"
        assert event["ranks"] == [0, 1]
        assert spiked.loud[event["step"]] in event["keys"]
        record = json.loads((spiked.run / event["file"]).read_text())
        assert [sample["key"] for sample in record["samples"]] == event["keys"]
        first = (event["step"] - 1) * SAMPLES
        positions = [sample["position"] for sample in record["samples"]]
        assert positions == list(range(first, first + SAMPLES))
    # The first of a pair leaves the weights as they were, and the step after it changes them.
    lines = spiked.lines
    assert lines[32]["skipped"] == events[4]["problem"]
    assert lines[32]["parameters"] == lines[31]["parameters"] != lines[33]["parameters"]


def test_too_many_lead_back_to_the_last_good_checkpoint_and_past_them(spiked: Spiked) -> None:
    back = runs.events(spiked.run, "rolled-back")
    assert [event["last"] for event in back] == [last for _, _, last in ROLLBACKS]
    assert [event["step"] for event in runs.events(spiked.run, "resumed")] == [11, 22]
    loaded = recipes.load(spiked.run / "recipe.yaml", PretrainRecipe)
    folder = RunFolder(str(spiked.run))
    model = construction.build(loaded, loaded.stages[0], folder, alone()).model
    lines = spiked.lines
    for saved, _, last in ROLLBACKS:
        load_module(model, folder.checkpoints("out") / f"step-{saved:08d}")
        weights = ledger.checksum(model, divided=False)
        for step in range(saved + 1, last + 1):
            assert lines[step]["skipped"] == PASSED
            assert lines[step]["batch"] is None
        assert {lines[step]["parameters"] for step in range(saved, last + 1)} == {weights}
        assert lines[last + 1]["parameters"] != weights
        assert lines[last + 1]["skipped"] is None
    # What is trained on is what stands there in the order, as if nothing had been passed over.
    for step in (11, 18, 22, 31):
        ids = sum(ledger.ids_sum([place]) for place in places(spiked.corpus, step))
        assert int(lines[step]["batch"], 16) == ids


def test_when_going_back_does_not_help_the_run_ends_as_numerics(spiked: Spiked) -> None:
    assert spiked.codes == [ExitCode.NUMERICS] * 2, spiked.said
    (event,) = runs.events(spiked.run, "run-stopped")
    assert event["code"] == ExitCode.NUMERICS
    cause = event["message"]
    assert cause.startswith("stage out, step 35: the ")
    assert "is a spike, above" in cause
    assert "after 1 skipped steps of the last 100 and 2 rollbacks" in cause
    causes = [line for line in spiked.said.splitlines() if "numerics" in line or "spike" in line]
    assert causes == [f"trawl: {cause}"] * 2
    assert "Traceback" not in spiked.said
    assert max(spiked.lines) == 34
    assert not (spiked.run / "stages").exists()


def test_a_kept_batch_is_computed_again(spiked: Spiked) -> None:
    # The checkpoint after step 11 has the very weights that step 12 found.
    event = runs.events(spiked.run, "bad-step")[0]
    found = replay(str(spiked.run), Path(event["file"]).stem)
    assert found.checkpoint == 11
    assert found.reproducible
    assert found.loss == pytest.approx(event["loss"], rel=1e-5)
    loudest = max(found.micro_batches, key=lambda each: each.loss)
    assert loudest.number == 1
    done = CliRunner().invoke(pretrain, ["replay", str(spiked.run), Path(event["file"]).stem])
    assert done.exit_code == 0, done.output
    assert f"the loss {found.loss:.6g} is above {event['bounds']['loss']:.6g} again" in done.output
    assert "reproducible: data or weights are at fault, no machine is" in done.output


@pytest.mark.parametrize("balance", [1, 2])
def test_a_packed_batch_with_counted_dropout_is_computed_again(
    tmp_path: Path, balance: int
) -> None:
    """What is replayed is padded: the masks are the same. Dealt rows are found where they were."""
    step = LOUD[0]
    quiet = Corpus(tiny_corpus.write(tmp_path / "quiet", "web", 160))
    key = quiet[places(quiet.uri, step)[1].sample].key
    loud = frozenset(n for n in range(160) if tiny_corpus.key("web", n) == key)
    corpus = tiny_corpus.write(tmp_path / "loud", "web", 160, loud=loud)
    content = recipe(corpus, tmp_path / "run")
    content["stages"][0] |= {"steps": step + 1, "dropout": "counted"}
    content["stages"][0]["batch"] |= {
        "micro_batch": 2,
        "packing": "packed",
        "balance": balance,
    }
    forked.run(runs.write_recipe(tmp_path / "r.yaml", content), 1)
    (event,) = runs.events(tmp_path / "run", "bad-step")
    found = replay(str(tmp_path / "run"), Path(event["file"]).stem)
    assert found.checkpoint == EVERY
    assert found.loss == pytest.approx(event["loss"], rel=1e-5)
