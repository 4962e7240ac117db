"""Published rules of selection for the C4 detectors, by name.

"butd-10-100", "butd-36": Anderson et al. (2018), tools/generate_tsv.py: un-regressed proposals,
suppression per class. "frcnn-36": Hugging Face's FRCNN; "fork-36": the COCO script of
py-bottom-up-attention: the regressed box of the best class, one suppression over all classes, its
overlap raised until 36 boxes are left. "vinvl-filter1", "vinvl-filter2": scene_graph_benchmark with
NMS_FILTER 1 and 2 and IGNORE_BOX_REGRESSION: un-regressed proposals.

Where the originals leave their result undefined, the loosest overlap decides: an image then has
fewer than 36 regions, and their number says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data_pipeline.detector.c4_config import BoxConvention
from data_pipeline.detector.selection import SELECTIONS, Selected, SelectionRule, select
from data_pipeline.detector.suppression import Suppression, keep_best
from trawl.errors import RequestError


@dataclass(frozen=True)
class AgnosticRule:
    """One suppression over all classes, each box standing for its most probable class.

    overlaps: tried in turn until `minimum` boxes are left. floor: lower scores are dropped before
    suppression (kept are those above it). threshold, minimum, maximum, boxes: as in SelectionRule;
    boxes "regressed" are those of each box's most probable class.
    """

    overlaps: tuple[float, ...]
    floor: float
    threshold: float
    minimum: int
    maximum: int
    boxes: str = "proposals"


_RISING = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

C4_SELECTIONS: dict[str, SelectionRule | AgnosticRule] = {
    "butd-10-100": SELECTIONS["butd-10-100"],
    "butd-36": SELECTIONS["butd-36"],
    "frcnn-36": AgnosticRule(_RISING, -1.0, 0.0, 36, 36, boxes="regressed"),
    "fork-36": AgnosticRule(_RISING, -1.0, 0.0, 36, 36, boxes="regressed"),
    "vinvl-filter1": SelectionRule(0.3, 0.2, 10, 100, label="surviving", ranked=True),
    "vinvl-filter2": AgnosticRule((0.5,), 0.002, 0.2, 10, 100),
}


def c4_selection(name: str) -> SelectionRule | AgnosticRule:
    """Look a rule up by name; RequestError lists the known ones."""
    if name not in C4_SELECTIONS:
        known = ", ".join(C4_SELECTIONS)
        raise RequestError(f"regions.selection: {name} is not a rule; choose one of {known}")
    return C4_SELECTIONS[name]


def choose(
    boxes: Tensor,
    probabilities: Tensor,
    rule: SelectionRule | AgnosticRule,
    convention: BoxConvention,
) -> Selected:
    """Regions of one image from boxes [boxes, 4] and probabilities [boxes, classes - background].

    Boxes are those that the rule names, in pixels of the image before its resizing; overlaps are
    computed by the family's convention. Class ids of the result leave out the background.
    """
    extra, inclusive = convention.suppression_extra, convention.inclusive
    if isinstance(rule, SelectionRule):
        return select(boxes, probabilities, rule, Suppression(rule.nms_overlap, extra, inclusive))
    scores, classes = probabilities.max(dim=1)
    entered = (scores > rule.floor).nonzero().flatten()
    rows = entered[:0]
    for overlap in rule.overlaps:
        suppression = Suppression(overlap, extra, inclusive)
        rows = entered[keep_best(boxes[entered], scores[entered], suppression)]
        if len(rows) >= rule.minimum:
            break
    count = int((scores[rows] >= rule.threshold).sum())
    rows = rows[: min(max(count, rule.minimum), rule.maximum)]
    return Selected(rows, classes[rows], scores[rows])


def best_class_boxes(regressed: Tensor, probabilities: Tensor) -> Tensor:
    """Of boxes [boxes, classes, 4], background left out, those of each row's best class."""
    best = probabilities.argmax(dim=1)
    return regressed[torch.arange(len(best), device=best.device), best]
