"""Where a stage comes from: its recipe, its corpora, its parent, and the code."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import trawl
from data_pipeline.corpus.manifest import manifest_sha256
from pretrain import changes
from pretrain.recipe import PretrainRecipe, StageRecipe
from trawl.errors import RequestError

# Keys that came later, with their defaults: unused, they leave a recipe's hash as it was before.
_LATER = {
    "activation_checkpointing": False,
    "compile": False,
    "dropout": "drawn",
    "kernels": {},
    "shuffle_shards": None,
}
_LATER_OF_BATCH = {"packing": "padded", "balance": 1}
_LATER_OF_INIT = {"original": None, "format": None, "bert": None}


def recipe_part(recipe: PretrainRecipe, stage: StageRecipe) -> dict[str, Any]:
    """Return what `recipe` says that decides the result of `stage`, apart from its corpora."""
    part = stage.model_dump(mode="json", exclude={"data"})
    part = _without(part, _LATER)
    part["batch"] = _without(part["batch"], _LATER_OF_BATCH)
    if part["init"] is not None:
        part["init"] = _without(part["init"], _LATER_OF_INIT)
    whole = recipe.model_dump(mode="json", include={"seed", "model", "tokenizer"})
    return {**whole, "stage": part, "parent_stage": recipe.parent_stage(stage)}


def _without(part: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return `part` without those keys of `defaults` that have their default."""
    return {
        key: value for key, value in part.items() if key not in defaults or value != defaults[key]
    }


def corpora(stage: StageRecipe) -> list[dict[str, Any]]:
    """Return the corpora of `stage` with the hashes of their manifests."""
    return [
        {
            "uri": data.corpus,
            "weight": data.weight,
            "manifest_sha256": manifest_sha256(data.corpus),
        }
        for data in stage.data
    ]


def facts(recipe: PretrainRecipe, stage: StageRecipe) -> dict[str, Any]:
    """Return what a checkpoint or a release of `stage` records of its making."""
    part = recipe_part(recipe, stage)
    return {
        "recipe": part,
        "recipe_sha256": hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest(),
        "corpora": corpora(stage),
    }


def refuse_changes(manifest: dict[str, Any], recipe: PretrainRecipe, stage: StageRecipe) -> None:
    """Raise RequestError, with the differences, if `stage` is not what `manifest` was made of.

    A corpus that moved is the same corpus while its manifest is the same; one that can no longer be
    read is not compared by content.
    """
    found = changes.between(manifest["recipe"], recipe_part(recipe, stage))
    before = manifest["corpora"]
    found += changes.between(
        {"stage": {"data": [corpus["weight"] for corpus in before]}},
        {"stage": {"data": [data.weight for data in stage.data]}},
    )
    for old, data in zip(before, stage.data, strict=False):
        try:
            new = manifest_sha256(data.corpus)
        except RequestError:
            new = old["manifest_sha256"] if data.corpus == old["uri"] else "none"
        if new != old["manifest_sha256"]:
            hashes = f"{old['manifest_sha256'][:12]} -> {new[:12]}"
            found.append(f"corpus {data.corpus}: manifest {hashes}")
    if found:
        raise RequestError(
            f"stage {stage.name} of the run at {recipe.checkpoint.uri} was made with another "
            f"recipe: {'; '.join(found)}; restore it, or give the run another checkpoint.uri"
        )


def code_version() -> str:
    """Return the version of the code, with the commit where it runs from a git checkout."""
    root = Path(trawl.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return trawl.__version__
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return trawl.__version__
    return f"{trawl.__version__}+{commit}"
