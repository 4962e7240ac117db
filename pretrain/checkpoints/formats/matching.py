"""Which tensor of an original checkpoint is which of our model, strictly."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from pretrain.checkpoints.formats import keys
from pretrain.checkpoints.formats.files import Original
from pretrain.checkpoints.formats.format import Format
from pretrain.checkpoints.formats.tensors import aliases
from trawl.errors import RequestError

_DOUBLE = "predictions.decoder.bias"
"""A second name that transformers gives the bias of the masked-token head."""


@dataclass(frozen=True)
class Plan:
    """Where each tensor of an original goes."""

    names: dict[str, str]
    """Our name of each key that our model has; the other tensors are kept aside."""
    new: list[str]
    """Names of ours that the original lacks, and that stay as they were drawn."""


def match(
    model: PreTrainedModel,
    original: Original,
    names: Mapping[str, str],
    spelled: Mapping[str, str],
    form: Format,
    new_heads: bool,
) -> Plan:
    """Return where each tensor of `original` goes in `model`.

    names: our name of each key; spelled: its plain spelling. Raises RequestError that lists every
    key that is missing, unknown or of another shape, and if tensors differ that are one in ours.
    """
    ours = model.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in original.tensors.items()}
    twins = aliases(original.tensors)
    taken = {k: name for k, name in names.items() if name in ours and form.names.match(name)}
    theirs = {name: shapes[key] for key, name in taken.items()}
    for key, name in names.items():
        aside = (
            key in twins or form.unused.match(spelled[key]) or _is_double(key, spelled, original)
        )
        if key not in taken and not aside:
            theirs[name] = shapes[key]
    # What is tied in our model need not be in a file twice.
    shared = aliases(ours)
    groups = {name: shared.get(name, name) for name in ours}
    there = {groups[name] for name in taken.values()}
    missing = [name for name in ours if groups[name] not in there]
    buffers = {name for name, _ in model.named_buffers()}
    new = [
        name
        for name in missing
        if name not in buffers and (form.drawn_new or (new_heads and not form.core.match(name)))
    ]
    wanted = {
        name: tuple(tensor.shape)
        for name, tensor in ours.items()
        if name in theirs or (name in missing and name not in new and name not in buffers)
    }
    if lines := keys.differences(wanted, theirs):
        raise RequestError(f"does not fit the format {form.name}:\n  " + "\n  ".join(lines))
    _refuse_untied(original, taken, groups)
    return Plan(taken, new)


def _is_double(key: str, spelled: Mapping[str, str], original: Original) -> bool:
    """Say whether `key` is the decoder's bias again, equal to the head's own, which we have."""
    if not spelled[key].endswith(_DOUBLE):
        return False
    own = spelled[key].replace(_DOUBLE, "predictions.bias")
    first = [original.tensors[other] for other, name in spelled.items() if name == own]
    return bool(first) and torch.equal(first[0], original.tensors[key])


def _refuse_untied(original: Original, taken: Mapping[str, str], groups: Mapping[str, str]) -> None:
    """Raise RequestError where tensors differ that are one in our model."""
    first: dict[str, str] = {}
    for key, name in taken.items():
        other = first.setdefault(groups[name], key)
        if other != key and not torch.equal(original.tensors[other], original.tensors[key]):
            raise RequestError(
                f"{other} and {key} differ, and are one in our model; "
                "a decoder that is not tied is given with --set tie_word_embeddings=false"
            )
