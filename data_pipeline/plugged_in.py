"""Files and folders that a recipe names and that shape a corpus by what is in them.

A recipe's hash has the hash of their content in place of their path: the same list makes the same
corpus wherever it lies, and another list under the same name makes another.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trawl import storage
from trawl.errors import RequestError

if TYPE_CHECKING:
    from data_pipeline.recipe import CorpusRecipe


def fingerprints(recipe: "CorpusRecipe") -> dict[str, Any]:
    """Return the hash of what each such key names, by dotted key; keys that name nothing are out.

    RequestError for a key whose file or folder is not there.
    """
    texts, images = recipe.text_filter, recipe.image_filter
    places = {
        "text_filter.profanity": None if texts.profanity == "builtin" else texts.profanity,
        "text_filter.hypernyms": texts.hypernyms,
        "image_filter.unsafe.model": images.unsafe.model,
        "image_filter.watermark.model": images.watermark.model,
        # A JSON file of agreement is named in the manifest; its path was never part of the hash.
        "score.model": recipe.score.model if is_clip(recipe) else None,
    }
    found: dict[str, Any] = {
        key: _named(key, place) for key, place in places.items() if place is not None
    }
    if lists := recipe.aggregate.decontaminate:
        found["aggregate.decontaminate"] = sorted(
            _named("aggregate.decontaminate", place) for place in lists
        )
    return found


def is_clip(recipe: "CorpusRecipe") -> bool:
    """Say whether texts are scored by a CLIP model, which is a folder where others are files."""
    score = recipe.score
    return score.enabled and score.model not in ("builtin", "text") and is_folder(score.model)


def is_folder(place: str) -> bool:
    """Say whether a place is a folder of this machine."""
    return not storage.is_remote(place) and Path(place).is_dir()


def _named(key: str, place: str) -> str:
    try:
        return fingerprint(place)
    except RequestError as error:
        raise RequestError(f"{key}: {error}") from error


@functools.lru_cache(maxsize=32)
def fingerprint(place: str) -> str:
    """Return the SHA-256 of a file, or of the names and hashes of all files in a folder."""
    if not is_folder(place):
        return storage.sha256_of(place)
    files = {
        str(path.relative_to(place)): storage.sha256_of(path)
        for path in sorted(Path(place).rglob("*"))
        if path.is_file() and "/." not in f"/{path.relative_to(place)}"
    }
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
