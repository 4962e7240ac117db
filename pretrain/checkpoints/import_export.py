"""Checkpoints in and out: an original becomes a release of ours, a release the original's files.

Import is strict about keys and says which class means a match; what it cannot use is kept, so that
the export of an imported folder gives the original back: keys, order, shapes, number formats,
shared memory and values.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import PreTrainedModel

from pretrain.batches.tokenise import load_tokenizer
from pretrain.checkpoints import manifest
from pretrain.checkpoints.formats import files, format_named, keys, origin
from pretrain.checkpoints.formats.format import Format, MatchHead
from pretrain.checkpoints.formats.matching import Plan, match
from pretrain.checkpoints.formats.tensors import aliases
from pretrain.checkpoints.lineage import code_version
from pretrain.checkpoints.publish import seal_release
from pretrain.checkpoints.pull import verify
from pretrain.models.families import family, family_of
from pretrain.models.loading import load_pretrained
from trawl import storage
from trawl.errors import RequestError, WorkError

_NEW_WEIGHTS_SEED = 0


@dataclass(frozen=True)
class ImportRequest:
    """What is imported, and how."""

    source: Path
    """The original: its file of tensors, or the folder that holds it."""
    target: Path
    """The folder that is made."""
    form: Format
    overrides: tuple[str, ...] = ()
    """`KEY=VALUE` for the configuration of our model."""
    tokenizer: Path | None = None
    """Folder of the tokenizer, if it does not lie with the original."""
    unsafe_pickle: bool = False
    """Let the file run code as it is read."""
    new_heads: bool = False
    """Draw heads that the file lacks, as a fine-tuned checkpoint does."""


def import_checkpoint(request: ImportRequest) -> list[str]:
    """Make a release of ours of an original checkpoint; return in lines what is to be known of it.

    Raises RequestError for a file that cannot be read safely, and with every key that is missing,
    unknown or of another shape.
    """
    form = request.form
    files.refuse_filled(request.target)
    original = files.read(request.source, form, request.unsafe_pickle)
    model, plan = _fitted(request, original)
    entries, kept = _take(model, original, plan, form)
    told = [f"format     {form.name}, {len(entries)} tensors, {len(kept)} of them kept aside"]
    if plan.new:
        told.append(f"drawn new  {len(plan.new)} tensors, {plan.new[0]} the first")
    told += _polarity(form.heads, model)
    remembered = origin.Origin(
        format=form.name,
        file=original.path.name,
        sha256=storage.sha256_of(original.path),
        entries=entries,
        config=original.config,
        rest=_plain_values(original.rest, told),
        wrapped=original.wrapped,
    )
    with files.new_folder(request.target) as folder:
        model.save_pretrained(folder)
        remembered.write(folder, kept)
        told.append(_save_tokenizer(request.tokenizer or original.tokenizer, model.config, folder))
        storage.write_text(folder / "README.md", _card(request, remembered, told))
        sealed = seal_release(folder, _lineage(request, remembered))
    return [*told, f"release    {request.target}  {sealed['sha256']}"]


def _fitted(request: ImportRequest, original: files.Original) -> tuple[PreTrainedModel, Plan]:
    """Return a model of the original's sizes, and where in it each of its tensors goes."""
    form = request.form
    spelled = keys.plain_keys(original.tensors, original.path)
    names = {key: form.ours(name) for key, name in spelled.items()}
    shapes = {names[key]: tuple(tensor.shape) for key, tensor in original.tensors.items()}
    try:
        config = _configuration(form, shapes, original.config, request.overrides)
        torch.manual_seed(_NEW_WEIGHTS_SEED)
        model = family(form.family).pretraining(config)
        return model, match(model, original, names, spelled, form, request.new_heads)
    except (RequestError, ValueError, TypeError, ArithmeticError) as error:
        # The last three from sizes that no network can have.
        raise RequestError(f"{original.path}: {error}") from error


def _configuration(
    form: Format, shapes: keys.Shapes, config: Mapping[str, Any], overrides: Iterable[str]
) -> Any:
    """Return the configuration of our model from the original's shapes and configuration."""
    settings = form.settings(shapes, config)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise RequestError(f"--set {override}: write it as KEY=VALUE")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RequestError(f"--set {override}: the value is not YAML; quote it") from error
    for key, value in settings.items():
        if value is None:
            raise RequestError(
                f"neither the tensors nor a config.json say {key}; give it with --set {key}=VALUE"
            )
    classes = family(form.family).configuration
    longest = settings.get("max_position_embeddings")
    default = getattr(classes(), "max_seq_length", None)
    if longest and default and default > longest:
        settings.setdefault("max_seq_length", longest)
    return classes.of_size("base", **settings)


@torch.no_grad()
def _take(
    model: PreTrainedModel, original: files.Original, plan: Plan, form: Format
) -> tuple[list[origin.Entry], dict[str, Tensor]]:
    """Copy the original's values into `model`; return its tensors' entries, and those kept."""
    ours = model.state_dict()
    twin = aliases(original.tensors)
    turned = _turned(form.heads, model.config)
    entries, kept = [], {}
    for key, tensor in original.tensors.items():
        name = plan.names.get(key)
        swapped = name in turned
        keep = name is None and key not in twin
        if name is not None:
            ours[name].copy_(origin.swap_rows(tensor) if swapped else tensor)
            # float32 holds the shorter formats exactly, and not the longer ones.
            keep = tensor.dtype != ours[name].dtype and tensor.dtype.itemsize >= 4
        if keep:
            kept[key] = tensor
        entries.append(
            origin.Entry(
                key=key,
                dtype=origin.dtype_name(tensor),
                shape=list(tensor.shape),
                name=name,
                alias=twin.get(key),
                kept=keep,
                swapped=swapped,
            )
        )
    return entries, kept


def _turned(heads: Iterable[MatchHead], config: Any) -> set[str]:
    """Return our names of the tensors whose first two rows are the other way round there."""
    return {
        f"{head.prefix}.{part}"
        for head in heads
        if head.follows_config and head.match_class != config.match_class
        for part in ("weight", "bias")
    }


def _polarity(heads: Iterable[MatchHead], model: PreTrainedModel) -> list[str]:
    """Return in lines which class of each head means that image and text belong together."""
    told = []
    for head in heads:
        ours = model.config.match_class if head.follows_config else head.match_class
        change = "as published" if ours == head.match_class else "its rows change places"
        told.append(
            f"match      {head.prefix}: class {ours} means a match here, "
            f"class {head.match_class} in the format ({change})"
        )
    return told


def _plain_values(rest: Mapping[str, Any], told: list[str]) -> dict[str, Any]:
    """Return what of `rest` is plain values; say of the others that they are left."""
    plain = {}
    for key, value in rest.items():
        try:
            plain[key] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            told.append(f"left out   {key}, which is neither tensors of the model nor plain values")
    return plain


def _save_tokenizer(folder: Path | None, config: Any, target: Path) -> str:
    """Save the tokenizer in `folder` into `target`; RequestError if it is not the model's."""
    if folder is None:
        return "tokenizer  none; give its folder with --tokenizer to evaluate or train the model"
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) != config.vocab_size:
        raise RequestError(
            f"{folder}: the tokenizer has {len(tokenizer)} words, the model {config.vocab_size}; "
            "name the model's with --tokenizer"
        )
    tokenizer.save_pretrained(target)
    return f"tokenizer  {len(tokenizer)} words"


def _lineage(request: ImportRequest, remembered: origin.Origin) -> dict[str, Any]:
    """Return what the manifest says of where the release comes from."""
    recipe = {
        "import": {
            "format": remembered.format,
            "file": remembered.file,
            "sha256": remembered.sha256,
            "set": list(request.overrides),
        }
    }
    return {
        "name": request.target.name,
        "stage": f"imported-{remembered.format}",
        "step": 0,
        "parent": None,
        "code": code_version(),
        "recipe": recipe,
        "recipe_sha256": hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        "corpora": [],
    }


def _card(request: ImportRequest, remembered: origin.Origin, told: list[str]) -> str:
    """Return README.md of an imported release."""
    lines = [
        f"# {request.target.name}",
        "",
        f"Imported by `trawl checkpoint import --format {remembered.format}` from "
        f"`{remembered.file}` (SHA-256 `{remembered.sha256}`). "
        f"`trawl checkpoint export --format {remembered.format}` gives it back.",
        "",
        "```text",
        *told,
        "```",
        "",
        "The licence is the original's.",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class ExportRequest:
    """What is exported, and how."""

    source: Path
    """A release, or any folder that a model of ours was saved to."""
    target: Path
    """The folder, or for a format of one file the file, that is written."""
    format: str
    wrapper: bool = False
    """Put `module.` before every key."""


def export_checkpoint(request: ExportRequest) -> list[str]:
    """Write the original's files of a model of ours; return in lines what is to be known of them.

    A folder that was imported from the same format gives the original back bit for bit. Raises
    RequestError for a format of another family, and if something is at the target.
    """
    if str(request.source).startswith("s3:"):
        raise RequestError(f"{request.source}: pull it first: trawl checkpoint pull")
    if not (request.source / "config.json").is_file():
        raise RequestError(f"{request.source}: no config.json; name a folder with a saved model")
    if (request.source / manifest.NAME).is_file():
        verify(str(request.source))
    model = load_pretrained(request.source)
    form = format_named(request.format, family_of(model.config).name)
    remembered = origin.read(request.source)
    told = _polarity(form.heads, model)
    if remembered is not None and remembered[0].format == form.name:
        record, extra = remembered
        form = form if record.wrapped else replace(form, wrapped_in=None)
        path = files.place(request.target, form, record.file)
        try:
            tensors = _given_back(model, record, extra)
        except KeyError as error:
            raise WorkError(f"{request.source}: {origin.NAME} names {error}, not there") from error
        config, rest = record.config or form.original(model.config, _shapes(model)), record.rest
    else:
        path = files.place(request.target, form)
        tensors, left = _translated(model, form)
        config = form.original(model.config, _shapes(model))
        rest = {"config": config} if form.wrapped_in else {}
        told += [
            f"left out   {line.split(maxsplit=1)[1]}: the format has no such head" for line in left
        ]
        if remembered is not None and remembered[1]:
            told.append(f"left out   {origin.EXTRA}: of the format {remembered[0].format}")
    if request.wrapper:
        tensors = {keys.WRAPPER + key.removeprefix(keys.WRAPPER): t for key, t in tensors.items()}
    written = files.write(path, form, tensors, config, rest, _vocabulary(request.source))
    told.append(f"format     {form.name}, {len(tensors)} tensors")
    return [*told, *(f"written    {file}" for file in written)]


def _shapes(model: PreTrainedModel) -> keys.Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _given_back(
    model: PreTrainedModel, record: origin.Origin, extra: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors of the original that `model` was imported from."""
    ours = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for entry in record.entries:
        if entry.alias is not None:
            tensors[entry.key] = tensors[entry.alias]
        elif entry.name is None:
            tensors[entry.key] = extra[entry.key]
        else:
            value = ours[entry.name]
            value = origin.swap_rows(value) if entry.swapped else value
            if entry.kept and torch.equal(extra[entry.key].to(value.dtype), value):
                value = extra[entry.key]
            # Not tied there, and tied here: memory of its own.
            tensors[entry.key] = value.to(origin.dtype_named(entry.dtype)).clone()
    return tensors


def _translated(model: PreTrainedModel, form: Format) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of `model` by the format's keys, and lines about those that it lacks."""
    turned = _turned(form.heads, model.config)
    state = dict(model.state_dict())
    state |= {name: value for name, value in model.named_buffers() if name not in state}
    fitting = {name: value for name, value in state.items() if form.names.match(name)}
    left = keys.differences({}, {n: tuple(v.shape) for n, v in state.items() if n not in fitting})
    tensors = {
        form.theirs(name): origin.swap_rows(value) if name in turned else value
        for name, value in fitting.items()
    }
    return form.complete(tensors), left


def _vocabulary(folder: Path) -> list[str] | None:
    """Return the words of the tokenizer in `folder` by number, or None if there is no tokenizer."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        return None
    numbers = load_tokenizer(folder).get_vocab()
    return sorted(numbers, key=lambda word: numbers[word])
