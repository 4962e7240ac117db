"""The plain step of `bench/train.py`: padded rows, all heads at all positions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pretrain import objectives

Batch = dict[str, Tensor]


def plain_loss(network: Any, inputs: Batch, targets: Batch, names: Mapping[str, float]) -> Tensor:
    """Return the sum of the losses `names`, from what `dense` made of a padded batch."""
    with all_positions(network):
        outputs = network(**inputs)
    flat = {name: flattened(name, value) for name, value in outputs.items()}
    return torch.stack(
        [PLAIN_LOSSES.get(name, whole_loss(name))(flat, targets) for name in names]
    ).sum()


def flattened(name: str, output: Tensor | None) -> Tensor | None:
    """Return what a head says of [batch, length] positions as one list of them."""
    at_positions = name in {"prediction_logits", "object_logits", "attribute_logits"}
    if output is not None and (at_positions or name == "feature_predictions"):
        return output.flatten(0, 1)
    return output


@contextmanager
def all_positions(network: Any) -> Iterator[None]:
    """Let X-VLM's last layer compute all positions where its heads read the first one alone."""
    if not hasattr(network, "fuse_first"):
        yield
        return
    network.fuse_first = lambda *inputs: network.fuse(*inputs)[-1][:, 0]
    try:
        yield
    finally:
        del network.fuse_first


def dense(batch: Batch, name: str) -> tuple[Batch, Batch]:
    """Return a padded batch's inputs without places, and its targets for each position."""
    inputs = {key: value for key, value in batch.items() if key not in objectives.TARGETS}
    targets = {key: value for key, value in batch.items() if key in objectives.TARGETS}
    tokens, where = batch["input_ids"].numel(), inputs.pop("masked_positions")
    targets["masked_labels"] = filled(batch["masked_labels"], where, tokens, -1)
    seen = next((key for key in ("img_feats", "features", "visual_feats") if key in batch), None)
    where = inputs.pop("predicted_regions", None)
    if seen is not None and where is not None:
        rows, width = batch[seen].shape[:2]
        if name == "vilbert":  # the head also reads the whole image, which stands first
            where = where // (width - 1) * width + where % (width - 1) + 1
        for key in REGION_TARGETS & targets.keys():
            fill = -1 if key.endswith("labels") else 0
            targets[key] = filled(targets[key], where, rows * width, fill)
        targets["masked_regions"] = filled(torch.ones(len(where)), where, rows * width, 0)
    return inputs, targets


REGION_TARGETS = frozenset(
    {
        "object_labels",
        "object_weights",
        "object_probabilities",
        "attribute_labels",
        "attribute_weights",
        "feature_targets",
        "feature_weights",
    }
)


def filled(values: Tensor, where: Tensor, count: int, fill: int) -> Tensor:
    """Return `values` at the places `where` of `count`, and `fill` elsewhere."""
    whole = values.new_full((count, *values.shape[1:]), fill)
    whole[where] = values
    return whole


def plain_mrfr(outputs: Mapping[str, Any], targets: Batch) -> Tensor:
    """Return the squared distances of all regions, of which those masked count."""
    distances = (outputs["feature_predictions"] - targets["feature_targets"]).square().sum(-1)
    masked = targets["masked_regions"]
    return (distances * masked).sum() / masked.sum()


def plain_moc_kl(outputs: Mapping[str, Any], targets: Batch) -> Tensor:
    """Return the divergences of all regions, of which those masked count."""
    said = outputs["object_logits"].log_softmax(-1)
    distances = functional.kl_div(said, targets["object_probabilities"], reduction="none").sum(-1)
    masked = targets["masked_regions"]
    return (distances * masked).sum() / masked.sum()


PLAIN_LOSSES: dict[str, Callable[[Mapping[str, Any], Batch], Tensor]] = {
    "mrfr": plain_mrfr,
    "moc-kl": plain_moc_kl,
}


def whole_loss(name: str) -> Callable[[Mapping[str, Any], Batch], Tensor]:
    """Return the loss `name` of all positions, which by itself ignores labels of -1."""
    return lambda outputs, targets: objectives.compute(outputs, targets, {name: 1.0})[0]
