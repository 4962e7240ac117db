"""A whole build in this process: the units one after another, without Ray."""

from pathlib import Path
from typing import Any

from data_pipeline.build import run_phases
from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.scheduling import PHASES, Driver, attempt
from data_pipeline.units import Entry, Ledger, Unit, finish_phase


class Inline:
    """Does what `scheduling.Scheduler` does, for builds of a few units."""

    def __init__(self, out: str, recipe: CorpusRecipe) -> None:
        self.out, self.recipe, self.ledger = out, recipe, Ledger(out)
        self.counts: dict[str, dict[str, int]] = {}

    def run(self, phase: str, units: list[Unit]) -> dict[str, Entry]:
        """Do the units of a phase."""
        entries = {}
        for unit in units:
            done = attempt(self.out, self.recipe, unit, PHASES[phase], Driver.of_this_process())
            assert "entry" in done, done
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


def reasons(out: Path) -> dict[str, str]:
    """Return the reason of each decision by image address."""
    return {row["url"]: row["reason"] for row in read_decisions(str(out))}
