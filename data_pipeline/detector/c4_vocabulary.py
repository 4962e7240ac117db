"""The names of classes and attributes, which the weights files do not hold.

They are read from the publishers' own lists where these lie beside the weights file; else classes
are named by their numbers, so that an extraction never waits for a list of words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trawl import storage
from trawl.errors import RequestError

OBJECT_LIST = "objects_vocab.txt"
ATTRIBUTE_LIST = "attributes_vocab.txt"
LABEL_MAP = "VG-SGG-dicts-vgoi6-clipped.json"


def vocabulary(weights: Path, objects: int, attributes: int) -> tuple[list[str], list[str]]:
    """Names of `objects` classes and `attributes` attributes, without background and "none".

    Beside the weights: objects_vocab.txt and attributes_vocab.txt (one name a line, synonyms after
    a comma), or VinVL's label map. RequestError where a list has another length.
    """
    label_map = weights.with_name(LABEL_MAP)
    if label_map.is_file():
        fields = storage.read_json(label_map)
        return (
            _mapped(label_map, fields, "label_to_idx", objects),
            _mapped(label_map, fields, "attribute_to_idx", attributes),
        )
    return (
        _listed(weights.with_name(OBJECT_LIST), "object", objects),
        _listed(weights.with_name(ATTRIBUTE_LIST), "attribute", attributes),
    )


def _listed(path: Path, kind: str, count: int) -> list[str]:
    if not path.is_file():
        return [f"{kind} {number}" for number in range(1, count + 1)]
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.split(",")[0].strip() for line in lines if line.strip()]
    if len(names) != count:
        raise RequestError(f"{path}: {len(names)} names, the weights have {count}; give its list")
    return names


def _mapped(path: Path, fields: Any, key: str, count: int) -> list[str]:
    """Names by number from VinVL's map, whose number 0 is the background or absent."""
    numbers = fields.get(key) if isinstance(fields, dict) else None
    if not isinstance(numbers, dict):
        raise RequestError(f"{path}: no {key}; give VinVL's label map, or remove the file")
    names = {int(number): str(name) for name, number in numbers.items() if int(number) > 0}
    if sorted(names) != list(range(1, count + 1)):
        raise RequestError(f"{path}: {key} has {len(names)} names, the weights have {count}")
    return [names[number] for number in range(1, count + 1)]
