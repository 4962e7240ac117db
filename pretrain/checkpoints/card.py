"""The model card of a release."""

from typing import Any

from pretrain.recipe import PretrainRecipe, StageRecipe

_MOST_LICENCES = 12


def card(
    recipe: PretrainRecipe,
    stage: StageRecipe,
    lineage: dict[str, Any],
    evaluation: dict[str, Any],
    corpora: list[dict[str, Any]],
    licences: dict[str, int],
) -> str:
    """Return README.md of the release of `stage`; corpora say name, samples and detector.

    licences: the count of samples by what their pages declare, "" where one says nothing.
    """
    title = f"{recipe.name}, stage {stage.name}"
    parts = [
        "---",
        f"license: {recipe.publish.licence}",
        "library_name: transformers",
        "tags: [vision-language, trawl, " + recipe.model.family + "]",
        "---",
        "",
        f"# {title}",
        "",
        f"A {recipe.model.family} ({recipe.model.size}) pretrained by Trawl on detected regions, "
        "their object tags and captions.",
        "",
        "```python",
        "import pretrain  # registers the model family",
        "from transformers import AutoModel",
        "",
        'model = AutoModel.from_pretrained("THIS FOLDER")',
        "```",
        "",
        "## Lineage",
        "",
        *_lineage(lineage),
        "",
        "## Data",
        "",
        "| corpus | samples | weight | detector | manifest |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {c['name']} | {c['samples']:,} | {c['weight']} | {c['detector']} "
            f"| `{c['manifest_sha256'][:12]}` |"
            for c in corpora
        ),
        "",
        f"{stage.steps:,} steps of {stage.batch.samples:,} samples, objectives "
        + ", ".join(f"{name} ({weight:g})" for name, weight in stage.objectives.items())
        + ".",
        "",
        "## Metrics",
        "",
        "| metric | value |",
        "| --- | --- |",
        *(f"| {name} | {value:.4g} |" for name, value in _numbers(evaluation).items()),
        "",
        "## Licence",
        "",
        f"The weights: {recipe.publish.licence}. Each image and text of a corpus keeps its own; "
        "`licence` in a sample's JSON says what its page declared. Detector features are derived "
        "from the images.",
        "",
        *_licences(licences),
    ]
    if recipe.publish.notes:
        parts += ["", "## Notes", "", recipe.publish.notes]
    return "\n".join(parts) + "\n"


def _licences(counts: dict[str, int]) -> list[str]:
    """Return the table of the licences that the first samples declare, the most frequent first."""
    named = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = named[:_MOST_LICENCES], sum(count for _, count in named[_MOST_LICENCES:])
    rows = [(f"`{name}`" if name else "none declared", count) for name, count in shown]
    rows += [("others", rest)] if rest else []
    return [
        f"Declared by the first {sum(counts.values()):,} different samples of the stage:",
        "",
        "| licence | samples |",
        "| --- | --- |",
        *(f"| {name} | {count:,} |" for name, count in rows),
    ]


def _lineage(lineage: dict[str, Any]) -> list[str]:
    parent = lineage["parent"]
    started = (
        f"- starts from {parent['name']}, sha256 `{parent['manifest_sha256']}`"
        if parent
        else "- starts from new weights"
    )
    return [
        started,
        f"- recipe `{lineage['recipe_sha256']}`, in full in `manifest.json`",
        f"- code {lineage['code']}",
    ]


def _numbers(evaluation: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers in `evaluation` by dotted key; lists are left out."""
    numbers: dict[str, float] = {}
    for name, value in evaluation.items():
        if isinstance(value, dict):
            numbers |= _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[prefix + name] = value
    return numbers
