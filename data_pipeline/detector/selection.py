"""Which of an image's scored boxes become its regions: rules of per-class suppression, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from torch import Tensor

from data_pipeline.detector.suppression import Suppression, suppress_for
from trawl.errors import RequestError


@dataclass(frozen=True)
class SelectionRule:
    """How regions are chosen.

    nms_overlap: per-class suppression removes boxes that overlap a better one by more than this.
    threshold: boxes with a surviving score of at least this are kept ...
    minimum, maximum: ... but never fewer than the first and never more than the second.
    boxes: "proposals" gives the un-regressed proposals, as published for bottom-up attention,
        whose boxes are the ones that were pooled; "regressed" gives the refined boxes.
    label: "argmax" reports the most probable class of the box, "surviving" the class under which
        it survived suppression with the highest score, and that score as its confidence.
    ranked: order the regions by falling score always; published rules do so only when the minimum
        or the maximum decides, and keep the order of the proposals otherwise.
    suppressed_too: boxes that survive in no class may fill up to the minimum.
    """

    nms_overlap: float
    threshold: float
    minimum: int
    maximum: int
    boxes: str = "proposals"
    label: str = "argmax"
    ranked: bool = False
    suppressed_too: bool = True


SELECTIONS = {
    "butd-10-100": SelectionRule(0.3, 0.2, 10, 100),
    "butd-36": SelectionRule(0.3, 0.2, 36, 36),
    "detections": SelectionRule(
        0.5, 0.05, 0, 100, boxes="regressed", label="surviving", ranked=True
    ),
}


@dataclass(frozen=True)
class Selected:
    """Rows chosen from an image's boxes: indices, 0-based class ids and confidences."""

    rows: Tensor
    object_ids: Tensor
    confidences: Tensor


@dataclass(frozen=True)
class Conventions:
    """A detector's own answers to what the published rules leave to the family of the detector."""

    boxes: str
    label: str
    ranked: bool


def selection_rule(name: str, conventions: Conventions | None = None) -> SelectionRule:
    """Look a rule up by name, under a detector's own conventions where it has some."""
    if name not in SELECTIONS:
        raise RequestError(
            f"regions.selection: {name} is not a rule; choose one of {', '.join(SELECTIONS)}"
        )
    rule = SELECTIONS[name]
    return replace(rule, **asdict(conventions)) if conventions else rule


def select(
    boxes: Tensor,
    probabilities: Tensor,
    rule: SelectionRule,
    suppression: Suppression | None = None,
) -> Selected:
    """Choose regions of one image from boxes [boxes, 4] and class probabilities without background.

    The order is by falling score when the maximum cuts or the minimum fills up, else the order of
    the boxes, as published. `suppression` replaces the plain convention of overlaps.
    """
    suppression = suppression or Suppression(rule.nms_overlap)
    wanted = min(rule.minimum, len(boxes))
    surviving = suppress_for(boxes, probabilities, suppression, rule.threshold, wanted)
    scores, classes = surviving.max(dim=1)
    order = scores.argsort(descending=True, stable=True)
    count = int((scores >= rule.threshold).sum())
    rows = order[: min(max(count, wanted), rule.maximum)]
    if not rule.suppressed_too:
        rows = rows[scores[rows] > 0]
    if not rule.ranked and wanted <= count <= rule.maximum:
        rows = rows.sort().values
    if rule.label == "surviving":
        return Selected(rows, classes[rows], scores[rows])
    confidences, best = probabilities[rows].max(dim=1)
    return Selected(rows, best, confidences)
