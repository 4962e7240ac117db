"""Differences between two recipes, told in the words of their keys."""

from typing import Any


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Return nested mappings and lists as one mapping from dotted keys to plain values."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return {key: value}
    if not items:
        return {key: value}
    return {
        inner: leaf
        for name, part in items
        for inner, leaf in flatten(part, f"{key}.{name}" if key else str(name)).items()
    }


def between(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return one "key: before -> after" for each key that differs."""
    old, new = flatten(before), flatten(after)
    missing = object()
    return [
        f"{key}: {old.get(key, 'nothing')!r} -> {new.get(key, 'nothing')!r}"
        for key in sorted(old | new)
        if old.get(key, missing) != new.get(key, missing)
    ]
