"""The four layouts of published weights files as tables, and their exact turns to our own.

Our canonical layout has the background and "none" at index 0, ratio-major anchors and one logit an
anchor. Rows are moved, never computed, so they go back bit for bit; the one exception, the
difference of MILVLG's two logits, is why `C4Weights` keeps that tensor as it was. The scale of the
regressor's deltas stays in its rows and is recorded as `regression_weights`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data_pipeline.detector.c4_config import C4Config
from trawl.errors import RequestError

_RATIOS, _SIZES = 3, 4


@dataclass(frozen=True)
class Layout:
    """How one publisher names and orders the tensors.

    family: whose conventions the publisher's own code follows. preprocessing: its rule.
    convolution: from one of our convolutions' names to the prefixes of kernel and normalisation.
    heads: our names of the other layers to theirs. anchors: the name of the cell anchors.
    background_last: the background and "none" are the last rows, and the regressor has no rows for
    the background. size_major: so are the anchors. paired: 24 logits, background then foreground.
    kept: pattern of keys that the network does not need and an export gives back.
    alias: prefix of keys that repeat others under another prefix.
    """

    name: str
    family: str
    preprocessing: str
    convolution: Callable[[str], tuple[str, str]]
    heads: Mapping[str, str]
    anchors: str
    regression_weights: tuple[float, float, float, float]
    background_last: bool = False
    size_major: bool = False
    paired: bool = False
    kept: str = r"num_batches_tracked$|^pixel_(mean|std)$"
    alias: tuple[str, str] | None = None


def _detectron2(name: str) -> tuple[str, str]:
    """stem.conv, res2.0.conv1 or res5.0.shortcut -> prefixes in detectron2's naming."""
    if name == "stem.conv":
        prefix = "backbone.stem.conv1"
    else:
        prefix = ("roi_heads." if name.startswith("res5") else "backbone.") + name
    return prefix, f"{prefix}.norm"


def _maskrcnn_benchmark(name: str) -> tuple[str, str]:
    """The same in the naming of maskrcnn-benchmark."""
    if name == "stem.conv":
        return "backbone.body.stem.conv1", "backbone.body.stem.bn1"
    stage, block, layer = name.split(".")
    head = "roi_heads.box.feature_extractor.head"
    prefix = f"{head if stage == 'res5' else 'backbone.body'}.layer{int(stage[3]) - 1}.{block}"
    if layer == "shortcut":
        return f"{prefix}.downsample.0", f"{prefix}.downsample.1"
    return f"{prefix}.{layer}", f"{prefix}.bn{layer[4]}"


_D2_HEADS = {
    "proposal_head.hidden": "proposal_generator.rpn_head.conv",
    "proposal_head.objectness": "proposal_generator.rpn_head.objectness_logits",
    "proposal_head.deltas": "proposal_generator.rpn_head.anchor_deltas",
    "classifier": "roi_heads.box_predictor.cls_score",
    "regressor": "roi_heads.box_predictor.bbox_pred",
    "attributes.embedding": "roi_heads.box_predictor.cls_embedding",
    "attributes.hidden": "roi_heads.box_predictor.fc_attr",
    "attributes.score": "roi_heads.box_predictor.attr_score",
}

_FORK = Layout(
    name="fork",
    family="butd-d2",
    preprocessing="d2",
    convolution=_detectron2,
    heads=_D2_HEADS,
    anchors="proposal_generator.anchor_generator.cell_anchors.0",
    regression_weights=(10.0, 10.0, 5.0, 5.0),
    background_last=True,
    size_major=True,
)
_MILVLG = Layout(
    name="milvlg",
    family="butd",
    preprocessing="butd",
    convolution=_detectron2,
    heads={
        **_D2_HEADS,
        "attributes.embedding": "roi_heads.box_predictor.cls_embed",
        "attributes.hidden": "roi_heads.box_predictor.attr_linear1",
        "attributes.score": "roi_heads.box_predictor.attr_linear2",
    },
    anchors=_FORK.anchors,
    regression_weights=(1.0, 1.0, 1.0, 1.0),
    paired=True,
)
_VINVL = Layout(
    name="vinvl",
    family="vinvl",
    preprocessing="vinvl",
    convolution=_maskrcnn_benchmark,
    heads={
        "proposal_head.hidden": "rpn.head.conv",
        "proposal_head.objectness": "rpn.head.cls_logits",
        "proposal_head.deltas": "rpn.head.bbox_pred",
        "classifier": "roi_heads.box.predictor.cls_score",
        "regressor": "roi_heads.box.predictor.bbox_pred",
        "attributes.embedding": "attribute.predictor.cls_embedding",
        "attributes.hidden": "attribute.predictor.fc_attr",
        "attributes.score": "attribute.predictor.attr_score",
    },
    anchors="rpn.anchor_generator.cell_anchors.0",
    regression_weights=(10.0, 10.0, 5.0, 5.0),
    alias=("attribute.feature_extractor.", "roi_heads.box.feature_extractor."),
)

LAYOUTS = {
    "fork": _FORK,
    "hf": replace(_FORK, name="hf", preprocessing="hf"),
    "milvlg": _MILVLG,
    "vinvl": _VINVL,
}


def layout_by_name(name: str) -> Layout:
    """Look a layout up; RequestError lists the known ones."""
    if name not in LAYOUTS:
        raise RequestError(f"layout {name} is not known; choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def recognise(tensors: Mapping[str, Tensor], pickled: bool) -> Layout | None:
    """Whose file this is, by names and shapes; `pickled` tells the fork's from Hugging Face's."""
    if any(name.startswith("backbone.body.") for name in tensors):
        return LAYOUTS["vinvl"]
    logits = tensors.get(_D2_HEADS["proposal_head.objectness"] + ".bias")
    if logits is None or logits.ndim != 1:
        return None
    if len(logits) == 2 * _RATIOS * _SIZES:
        return LAYOUTS["milvlg"]
    return LAYOUTS["fork" if pickled else "hf"]


def source_name(name: str, layout: Layout) -> str:
    """The file's name of one of our tensors, say res2.0.conv1.normalisation.bias."""
    if name == "cell_anchors":
        return layout.anchors
    module, field = name.rsplit(".", 1)
    if module in layout.heads:
        return f"{layout.heads[module]}.{field}"
    convolution, part = module.rsplit(".", 1)
    kernel, norm = layout.convolution(convolution)
    return f"{kernel if part == 'convolution' else norm}.{field}"


def is_kept(name: str, layout: Layout) -> bool:
    """Say whether a key beyond the network's is one that such files have."""
    return re.search(layout.kept, name) is not None


def source_shape(name: str, shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Shape in the file of one of our tensors."""
    if layout.paired and name.startswith("proposal_head.objectness"):
        return (2 * shape[0], *shape[1:])
    if layout.background_last and name.startswith("regressor"):
        return (shape[0] - 4, *shape[1:])
    return shape


def to_canonical(name: str, tensor: Tensor, layout: Layout) -> Tensor:
    """Turn a tensor of the file into ours."""
    if layout.paired and name.startswith("proposal_head.objectness"):
        background, foreground = tensor.chunk(2)
        return foreground - background
    if layout.size_major and _per_anchor(name):
        return _regrouped(tensor, name, _SIZES, _RATIOS)
    if layout.background_last and name.startswith("regressor"):
        return torch.cat([tensor.new_zeros(4, *tensor.shape[1:]), tensor])
    if layout.background_last and _per_class(name):
        return tensor.roll(1, 0)
    return tensor


def from_canonical(name: str, tensor: Tensor, layout: Layout, config: C4Config) -> Tensor:
    """Turn one of our tensors into the file's; exact, but for what to_canonical computes.

    A regressor is scaled where the layout's weights are not those recorded for ours.
    """
    if layout.paired and name.startswith("proposal_head.objectness"):
        return torch.cat([torch.zeros_like(tensor), tensor])
    if layout.size_major and _per_anchor(name):
        return _regrouped(tensor, name, _RATIOS, _SIZES)
    if name.startswith("regressor"):
        tensor = _rescaled(tensor, config.regression_weights, layout.regression_weights)
        return tensor[4:] if layout.background_last else tensor
    if layout.background_last and _per_class(name):
        return tensor.roll(-1, 0)
    return tensor


def _per_anchor(name: str) -> bool:
    heads = ("proposal_head.objectness", "proposal_head.deltas")
    return name == "cell_anchors" or name.startswith(heads)


def _per_class(name: str) -> bool:
    return name.startswith(("classifier", "attributes.embedding", "attributes.score"))


def _regrouped(tensor: Tensor, name: str, outer: int, inner: int) -> Tensor:
    """Swap the two factors of the anchors' order; four rows an anchor stay together in deltas."""
    group = 4 if name.startswith("proposal_head.deltas") else 1
    parts = tensor.reshape(outer, inner, group, *tensor.shape[1:])
    return parts.transpose(0, 1).reshape(tensor.shape).contiguous()


def _rescaled(
    tensor: Tensor,
    recorded: tuple[float, float, float, float],
    wanted: tuple[float, float, float, float],
) -> Tensor:
    """Regressor rows [4 * classes, ...] for other weights of the same deltas."""
    if recorded == wanted:
        return tensor
    factors = tensor.new_tensor(wanted) / tensor.new_tensor(recorded)
    rows = factors.repeat(len(tensor) // 4)
    return tensor * rows.reshape(-1, *[1] * (tensor.ndim - 1))
