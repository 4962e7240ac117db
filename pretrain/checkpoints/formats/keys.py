"""The keys of a checkpoint: other spellings of the same, and how two sets of them differ."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from trawl.errors import RequestError

WRAPPER = "module."
"""What torch's data-parallel wrappers put before every key."""

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_OLD_SPELLING = {"gamma": "weight", "beta": "bias"}
_MAX_LINES = 20


def plain(key: str) -> str:
    """Return `key` without a wrapper's prefix, with the gains of norms called as torch does."""
    stem, dot, last = key.removeprefix(WRAPPER).rpartition(".")
    return stem + dot + _OLD_SPELLING.get(last, last)


def plain_keys(keys: Mapping[str, object], source: Path) -> dict[str, str]:
    """Return the plain spelling of each key; RequestError if two keys have the same."""
    spelled: dict[str, str] = {}
    for key in keys:
        if (name := plain(key)) in spelled:
            raise RequestError(f"{source}: {spelled[name]} and {key} are the same tensor; keep one")
        spelled[name] = key
    return {key: name for name, key in spelled.items()}


def count_layers(shapes: Shapes, prefix: str) -> int:
    """Return how many numbered parts lie under `prefix`, which ends with a dot.

    Counted and not read from the largest number, which a hostile file can make huge.
    """
    numbered = (re.match(re.escape(prefix) + r"(\d+)\.", name) for name in shapes)
    return len({found[1] for found in numbered if found})


def size(shapes: Shapes, name: str, axis: int) -> int:
    """Return one size of the tensor `name`; RequestError if it is not there, or another kind."""
    shape = shapes.get(name)
    if shape is None:
        raise RequestError(f"{name} is missing: the file is of another kind; look at --format")
    if len(shape) <= axis:
        raise RequestError(f"{name} has the shape {list(shape)}: it needs {axis + 1} dimensions")
    return shape[axis]


def differences(ours: Shapes, theirs: Shapes) -> list[str]:
    """Return in lines what is missing from, unknown in, and of another shape in `theirs`.

    Tensors that differ by nothing but the number of their layer are one line. At most 20 lines.
    """
    lines: Counter[str] = Counter()
    for name in ours:
        if name not in theirs:
            lines[f"missing    {_grouped(name)}"] += 1
        elif ours[name] != theirs[name]:
            wanted, found = list(ours[name]), list(theirs[name])
            lines[f"mis-shaped {_grouped(name)} is {found}, not {wanted}"] += 1
    for name in theirs:
        if name not in ours:
            lines[f"unknown    {_grouped(name)}"] += 1
    told = [f"{line} ({count} times)" if count > 1 else line for line, count in lines.items()]
    if len(told) > _MAX_LINES:
        told[_MAX_LINES - 1 :] = [f"and {len(told) - _MAX_LINES + 1} kinds more"]
    return told


def _grouped(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
