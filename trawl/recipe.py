"""Recipes: YAML read into strict pydantic models, changed from the command line with `--set`."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from trawl import storage
from trawl.errors import RequestError


class Recipe(BaseModel):
    """Base of every recipe and of every part of one: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


RecipeType = TypeVar("RecipeType", bound=Recipe)


def load(path: str | Path, model: type[RecipeType], overrides: Iterable[str] = ()) -> RecipeType:
    """Read the YAML file at `path` into `model`, with `a.b=c` `overrides` laid over it.

    Raises RequestError that names the file, the key and, for an unknown key, the nearest known one.
    """
    try:
        content = yaml.safe_load(storage.read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise RequestError(f"{path}: {place}{problem}; mend the YAML") from error
    if not isinstance(content, dict):
        raise RequestError(f"{path}: a recipe is a mapping of keys to values, not {content!r}")
    for override in overrides:
        _lay_over(content, override)
    return parse(content, model, str(path))


def find(name: str, folder: Path) -> str:
    """Return the file of recipe `name`: a path or URI, or one that ships in `folder`.

    Raises RequestError that lists the shipped ones for a name that is neither.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return name
    shipped = {path.stem: str(path) for path in folder.glob("*.yaml")}
    if name not in shipped:
        names = ", ".join(sorted(shipped))
        raise RequestError(f"{name}: no such recipe ships; give a file, or one of {names}")
    return shipped[name]


def from_overrides(model: type[RecipeType], overrides: Iterable[str], name: str) -> RecipeType:
    """Return `model` with its defaults and `a.b=c` `overrides`, for a recipe that has no file."""
    content: dict[str, Any] = {}
    for override in overrides:
        _lay_over(content, override)
    return parse(content, model, name)


def parse(content: dict[str, Any], model: type[RecipeType], name: str) -> RecipeType:
    """Check `content` against `model`; RequestError says what is wrong in the file `name`."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(f"{name}: {_explain(dict(first), model)}") from error


def dump(recipe: Recipe) -> str:
    """Return `recipe` as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def digest(
    recipe: Recipe, exclude: Iterable[str] = (), replace: Mapping[str, Any] | None = None
) -> str:
    """Return the SHA-256 of `recipe` without the dotted keys `exclude`, which change no result.

    `replace` gives dotted keys other values, say the hash of what lies where the key leads.
    """
    content = recipe.model_dump(mode="json")
    for key in exclude:
        place, last = _holder(content, key)
        place.pop(last, None)
    for key, value in (replace or {}).items():
        place, last = _holder(content, key)
        place[last] = value
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _holder(content: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the mapping that holds a dotted key, a new one if there is none, and the last name."""
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        place = place.get(parent, {}) if isinstance(place, dict) else {}
    return (place if isinstance(place, dict) else {}), last


def at_defaults(recipe: Recipe, keys: Iterable[str]) -> list[str]:
    """Return those of the dotted `keys` that `recipe` has at their defaults."""
    found = []
    for key in keys:
        *parents, last = key.split(".")
        place: Any = recipe
        for parent in parents:
            place = getattr(place, parent, None)
        field = type(place).model_fields.get(last) if isinstance(place, Recipe) else None
        if field is None or field.is_required():
            continue
        if getattr(place, last) == field.get_default(call_default_factory=True):
            found.append(key)
    return found


def _lay_over(content: dict[str, Any], override: str) -> None:
    """Set one dotted key of `content` from `a.b=c`; the value is YAML, numbers index lists."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RequestError(f"--set {override}: write it as KEY=VALUE, for example --set a.b=1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"--set {override}: the value is not YAML; quote it") from error
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        place = _step_into(place, parent, override)
    if isinstance(place, list):
        place[_list_index(place, last, override)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise RequestError(f"--set {override}: {key} lies inside a single value")


def _step_into(place: Any, name: str, override: str) -> Any:
    """Return the part of `place` called `name`, made new where a mapping has none."""
    if isinstance(place, list):
        return place[_list_index(place, name, override)]
    if not isinstance(place, dict):
        raise RequestError(f"--set {override}: {name} lies inside a single value")
    if place.get(name) is None:
        place[name] = {}
    return place[name]


def _list_index(place: list[Any], name: str, override: str) -> int:
    if not name.isdigit() or int(name) >= len(place):
        raise RequestError(f"--set {override}: {name} is no index of a list of {len(place)}")
    return int(name)


def _explain(error: dict[str, Any], model: type[BaseModel]) -> str:
    """Put one pydantic error into a sentence: key, what is wrong, and the fix."""
    location, known = _followed(model, error["loc"])
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {key}; {hint}"
    if error["type"] == "missing":
        return f"key {key} is missing; add it"
    said = error["msg"].removeprefix("Value error, ")
    if isinstance(error.get("input"), dict):  # a check of several keys names those itself
        return f"key {key}: {said}" if key else str(said)
    return f"key {key}: {said}, not {error.get('input')!r}"


def _followed(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[list[Any], list[str]]:
    """Return a location as the user writes it, and the keys known where its last part stands.

    Looks through lists and unions; pydantic names the member of a union by its `kind`, which is no
    key of its own.
    """
    models: list[type[BaseModel]] = [model]
    written: list[Any] = []
    for number, part in enumerate(location):
        of_kind = [m for m in models if len(models) > 1 and part in _kinds(m)]
        if of_kind:
            models = of_kind
            continue
        written.append(part)
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if fields and number + 1 < len(location):
            models = [found for field in fields for found in _models_in(field)]
    return written, [name for found in models for name in found.model_fields]


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return what the field `kind` of a member of a union may be."""
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field is not None else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
