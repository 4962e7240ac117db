"""Published rules of selection for the C4 detectors, by name.

"butd-10-100", "butd-36": Anderson et al. (2018), tools/generate_tsv.py: un-regressed proposals,
suppression per class. "frcnn-36": Hugging Face's FRCNN; "fork-36": the COCO script of
py-bottom-up-attention: the regressed box of the best class, one suppression over all classes, its
overlap raised until 36 boxes are left. "vinvl-filter0", "vinvl-filter1", "vinvl-filter2":
scene_graph_benchmark (box_head/inference.py) with that NMS_FILTER and IGNORE_BOX_REGRESSION:
un-regressed proposals.

scene_graph_benchmark halves its threshold, at most ten times, while an image has fewer than 10
regions. Under filter 0 that gives regions; filter 1 fills up to 10 whatever the threshold is, so
that the retries change nothing; filter 2 has none.

Where the originals leave their result undefined, the loosest overlap decides: an image then has
fewer than 36 regions, and their number says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data_pipeline.detector.c4_config import BoxConvention
from data_pipeline.detector.selection import SELECTIONS, Selected, SelectionRule, select
from data_pipeline.detector.suppression import Suppression, keep_best, suppress
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


@dataclass(frozen=True)
class PairRule:
    """Suppression per class, after which every surviving pair of box and class is a region.

    One box may be several regions. Pairs are those above `threshold`, which is halved while there
    are fewer than `minimum`, at most `halvings` times. Of more than `maximum` the best are kept,
    and all that are as good as the last of them. They come class by class, by falling score.
    """

    nms_overlap: float
    threshold: float
    minimum: int
    maximum: int
    halvings: int
    boxes: str = "proposals"


Rule = SelectionRule | AgnosticRule | PairRule

_RISING = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

C4_SELECTIONS: dict[str, Rule] = {
    "butd-10-100": SELECTIONS["butd-10-100"],
    "butd-36": SELECTIONS["butd-36"],
    "frcnn-36": AgnosticRule(_RISING, -1.0, 0.0, 36, 36, boxes="regressed"),
    "fork-36": AgnosticRule(_RISING, -1.0, 0.0, 36, 36, boxes="regressed"),
    "vinvl-filter0": PairRule(0.5, 0.2, 10, 100, halvings=10),
    "vinvl-filter1": SelectionRule(
        0.3, 0.2, 10, 100, label="surviving", ranked=True, suppressed_too=False
    ),
    "vinvl-filter2": AgnosticRule((0.5,), 0.002, 0.2, 10, 100),
}


def c4_selection(name: str) -> Rule:
    """Look a rule up by name; RequestError lists the known ones."""
    if name not in C4_SELECTIONS:
        known = ", ".join(C4_SELECTIONS)
        raise RequestError(f"regions.selection: {name} is not a rule; choose one of {known}")
    return C4_SELECTIONS[name]


def choose(boxes: Tensor, probabilities: Tensor, rule: Rule, convention: BoxConvention) -> Selected:
    """Regions of one image from boxes [boxes, 4] and probabilities [boxes, classes - background].

    Boxes are those that the rule names, in pixels of the image before its resizing; overlaps are
    computed by the family's convention. Class ids of the result leave out the background.
    """
    extra, inclusive = convention.suppression_extra, convention.inclusive
    if isinstance(rule, SelectionRule):
        return select(boxes, probabilities, rule, Suppression(rule.nms_overlap, extra, inclusive))
    if isinstance(rule, PairRule):
        suppression = Suppression(rule.nms_overlap, extra, inclusive)
        surviving, threshold = probabilities, rule.threshold
        for halving in range(rule.halvings + 1):
            threshold = rule.threshold / 2**halving
            surviving = suppress(boxes, probabilities, suppression, threshold)
            if int((surviving > threshold).sum()) >= rule.minimum:
                break
        return best_pairs(surviving, threshold, rule.maximum)
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


def best_pairs(surviving: Tensor, threshold: float, maximum: int) -> Selected:
    """Pairs of box and class above the threshold, from surviving scores [boxes, classes]."""
    classes, rows = (surviving > threshold).T.nonzero(as_tuple=True)
    scores = surviving[rows, classes]
    if len(scores) > maximum:
        kept = scores >= scores.topk(maximum).values[-1]
        classes, rows, scores = classes[kept], rows[kept], scores[kept]
    ranked = scores.argsort(descending=True, stable=True)
    order = ranked[classes[ranked].argsort(stable=True)]
    return Selected(rows[order], classes[order], scores[order])


def best_class_boxes(regressed: Tensor, probabilities: Tensor) -> Tensor:
    """Of boxes [boxes, classes, 4], background left out, those of each row's best class."""
    best = probabilities.argmax(dim=1)
    return regressed[torch.arange(len(best), device=best.device), best]
