"""Where two runs part: the first step at which their metrics say different things."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from pretrain import changes, metrics
from pretrain.run_folder import RunFolder
from trawl import storage
from trawl.errors import RequestError

# In the order in which one leads to the next: the checksum is taken after the step.
_FIELDS = ("batch", "lr", "loss", "losses", "grad_norm", "skipped", "parameters")
_MEANING = {
    "batch": "other samples",
    "lr": "another learning rate",
    "loss": "another loss",
    "losses": "another loss of an objective",
    "grad_norm": "another gradient",
    "skipped": "one skipped it",
    "parameters": "other weights after it",
}


@dataclass(frozen=True)
class Parting:
    """The first step at which two runs say different things."""

    stage: str
    step: int
    differences: list[tuple[str, Any, Any]]
    """Field, what the first run says, what the second says; the first is where it begins."""
    same_parameters: tuple[str, int] | None
    """Stage and step of the last checksum before it in which both agree."""


@dataclass(frozen=True)
class Comparison:
    """Two runs, step by step."""

    steps: int
    """Steps that both have."""
    parting: Parting | None
    recipes: list[str]
    """Differences of the recipes, without those of places."""

    def lines(self) -> Iterator[str]:
        """Yield what a person reads of it."""
        if self.parting is None:
            yield f"the same in all {self.steps:,} steps that both runs have"
        else:
            part = self.parting
            yield f"they part at stage {part.stage}, step {part.step}"
            for name, one, other in part.differences:
                yield f"  {name}: {one} and {other} ({_MEANING[name]})"
            if part.same_parameters:
                stage, step = part.same_parameters
                yield f"the weights were the same after stage {stage}, step {step}"
        yield from (f"recipe: {line}" for line in self.recipes)


def compare(one: str, other: str, tolerance: float = 0.0) -> Comparison:
    """Return where the runs at the URIs `one` and `other` part.

    tolerance: largest relative difference of numbers that still counts as the same; checksums are
    passed over when it is not 0. Raises RequestError where a run has no metrics.
    """
    first, second = _lines(one), _lines(other)
    shared = [key for key in first if key in second]
    same = None
    parting = None
    for key in shared:
        differences = _differences(first[key], second[key], tolerance)
        if differences:
            parting = Parting(*key, differences, same)
            break
        if first[key].get("parameters") and second[key].get("parameters"):
            same = key
    recipes = [
        line for line in _recipe_changes(one, other) if not line.startswith("checkpoint.uri")
    ]
    return Comparison(len(shared), parting, recipes)


def _lines(uri: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the metrics of the run at `uri` by stage and step."""
    run = RunFolder(uri)
    run.fetch(run.metrics)
    lines = metrics.read(run.metrics)
    if not lines:
        raise RequestError(f"{uri}: no metrics.jsonl with steps; name a run, its checkpoint.uri")
    return {(line["stage"], line["step"]): line for line in lines}


def _differences(
    one: dict[str, Any], other: dict[str, Any], tolerance: float
) -> list[tuple[str, Any, Any]]:
    """Return the fields in which two lines differ; what only one of them has tells nothing."""
    fields = [name for name in _FIELDS if name != "parameters" or tolerance == 0]
    found = []
    for name in fields:
        mine, theirs = one.get(name), other.get(name)
        lacks = name in ("batch", "parameters") and None in (mine, theirs)
        if not lacks and not _alike(mine, theirs, tolerance):
            found.append((name, mine, theirs))
    return found


def _alike(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _alike(one[name], other[name], tolerance) for name in one
        )
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance)
    return bool(one == other)


def _recipe_changes(one: str, other: str) -> list[str]:
    texts = [storage.join(uri, "recipe.yaml") for uri in (one, other)]
    if not all(storage.exists(text) for text in texts):
        return []
    before, after = (yaml.safe_load(storage.read_text(text)) for text in texts)
    return changes.between(before, after)
