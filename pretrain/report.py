"""The report of a run: loss curves of each stage and what the release's evaluation says."""

import math
from pathlib import Path
from typing import Any

from pretrain import metrics
from pretrain.recipe import PretrainRecipe
from pretrain.run_folder import RunFolder
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError
from trawl.report import Section, line_chart, page, table


def sections(uri: str, work: Path | None = None) -> list[Section]:
    """Return the sections of the run at `uri`; RequestError if no run lies there."""
    run = RunFolder(uri, work)
    if not storage.exists(storage.join(uri, "recipe.yaml")):
        raise RequestError(f"{uri}: no recipe.yaml; name the folder of a run, its checkpoint.uri")
    if run.remote:
        run.fetch(run.metrics)
        run.fetch(run.local / "recipe.yaml")
    recipe = recipes.load(run.local / "recipe.yaml", PretrainRecipe)
    lines = metrics.read(run.metrics)
    parts = [_curves(recipe.name, stage.name, lines) for stage in recipe.stages]
    return [*parts, _evaluations(recipe, run)]


def html(uri: str) -> str:
    """Return the report of the run at `uri` as one self-contained page."""
    return page(f"Pretraining at {uri}", sections(uri))


def _curves(name: str, stage: str, lines: list[dict[str, Any]]) -> Section:
    """Return the section of one stage: losses, learning rate, speed."""
    own = [line for line in lines if line["stage"] == stage]
    title = f"Training, stage {stage}"
    if not own:
        return Section(title, "<p>Not begun.</p>")
    known = [line for line in own if line["loss"] is not None] or [{**own[0], "loss": math.nan}]
    losses = {"all": [(line["step"], line["loss"]) for line in known]}
    for objective in own[0]["losses"]:
        losses[objective] = [(line["step"], line["losses"][objective]) for line in known]
    rate = {"learning rate": [(line["step"], line["lr"]) for line in own]}
    norm = {"gradient": [(line["step"], line["grad_norm"] or 0.0) for line in own]}
    seconds = sum(line["seconds"] for line in own)
    waited = sum(line["seconds"] * line["data_wait"] for line in own)
    lead = (
        f"{name}: {own[-1]['step']:,} steps, {own[-1]['samples']:,} samples in {seconds:,.0f} s, "
        f"{waited / max(seconds, 1e-9):.1%} of it spent waiting for data. "
        f"Loss {known[0]['loss']:.3f} at first, {known[-1]['loss']:.3f} at last."
    )
    if skipped := sum(line.get("skipped") is not None for line in own):
        lead += f" {skipped:,} steps were skipped by the guards."
    charts = (
        line_chart(losses, "step", "loss")
        + line_chart(rate, "step", "learning rate")
        + line_chart(norm, "step", "gradient norm")
    )
    return Section(title, f'<div class="charts">{charts}</div>', lead)


def _evaluations(recipe: PretrainRecipe, run: RunFolder) -> Section:
    """Return the table of what the finished stages' evaluation.json say."""
    rows = []
    for stage in recipe.stages:
        uri = storage.join(run.uri, "stages", stage.name, "evaluation.json")
        if not storage.exists(uri):
            continue
        evaluation = storage.read_json(uri)
        scores = evaluation.get("retrieval", {})
        numbers = {name: score for name, score in scores.items() if isinstance(score, float)}
        final = evaluation.get("training", {}).get("loss", float("nan"))
        shown = (
            ", ".join(f"{name} {score:.3f}" for name, score in numbers.items()) or "not asked for"
        )
        rows.append((stage.name, float(final), evaluation["parity"]["max_difference"], shown))
    if not rows:
        return Section("Published stages", "<p>None yet.</p>")
    header = ("stage", "final loss", "difference when read back", "retrieval")
    return Section("Published stages", table(header, rows))
