"""A whole build in this process: the units one after another, without Ray."""

from pathlib import Path
from typing import Any

import yaml

from data_pipeline.build import run_phases
from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.scheduling import PHASES, Driver, Scheduler, attempt
from data_pipeline.status import EVENTS
from data_pipeline.units import Entry, Ledger, Unit, finish_phase
from tests.data_pipeline.sources.pictures import served, write_picture
from trawl import recipe as recipes
from trawl.events import EventLog


class Inline:
    """Does what `scheduling.Scheduler` does, for builds of a few units."""

    def __init__(self, out: str, recipe: CorpusRecipe, log: EventLog | None = None) -> None:
        self.out, self.recipe, self.ledger, self.log = out, recipe, Ledger(out), log
        self.counts: dict[str, dict[str, int]] = {}

    def check_fence(self) -> None:
        """Let the build go on: nobody else builds there."""

    def run(self, phase: str, units: list[Unit]) -> dict[str, Entry]:
        """Do the units of a phase."""
        entries = {}
        if self.log:
            self.log.write("phase", phase=phase, units=len(units), done=0)
        for unit in units:
            done = attempt(self.out, self.recipe, unit, PHASES[phase], Driver.of_this_process())
            assert "entry" in done, done
            if self.log:
                Scheduler._tell(self, unit, done)  # type: ignore[arg-type]
            entries[unit.name] = done["entry"]
            for name, count in done["entry"].result.get("counts", {}).items():
                of_phase = self.counts.setdefault(phase, {})
                of_phase[name] = of_phase.get(name, 0) + count
        finish_phase(self.out, phase, entries)
        return entries


def build_here(out: Path, content: dict[str, Any]) -> Inline:
    """Build the corpus of the recipe `content` at `out`."""
    few = {"name": "test", "compute": {"cpus": 1}}
    recipe = CorpusRecipe.model_validate({**few, **content})
    inline = Inline(str(out), recipe)
    run_phases(inline)  # type: ignore[arg-type]
    return inline


def logged_build(out: Path) -> Path:
    """Build a corpus of three images with its events, and return its recipe's file."""
    site = out.with_name(f"{out.name}-site")
    for number in range(3):
        write_picture(site / f"{number}.jpg", number)
    table = out.with_name(f"{out.name}.tsv")
    texts = ("a brown dog runs over a green field", "a cat sleeps on a red chair", "dog")
    rows = [f"http://a.test/{number}.jpg\t{text}\n" for number, text in enumerate(texts)]
    table.write_text("".join(rows))
    with served(site) as download:
        source = {"kind": "table", "format": "cc12m", "uris": [str(table)]}
        content = {
            "name": "three",
            "out": str(out),
            "collect": {"source": source, "partitions": 1},
            "download": download,
            "score": {"enabled": False},
            "image_filter": {"natural": {"enabled": False}},
            "compute": {"cpus": 1},
        }
        recipe = out.with_name(f"{out.name}.yaml")
        recipe.write_text(yaml.safe_dump(content))
        with EventLog(out / EVENTS) as log:
            read = recipes.load(recipe, CorpusRecipe)
            run_phases(Inline(str(out), read, log))  # type: ignore[arg-type]
    return recipe


def reasons(out: Path) -> dict[str, str]:
    """Return the reason of each decision by image address."""
    return {row["url"]: row["reason"] for row in read_decisions(str(out))}
