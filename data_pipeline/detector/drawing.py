"""Draws regions over an image: boxes, objects, attributes, confidences, the surest on top."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline.corpus.regions import Regions

_COLOURS = (
    (228, 26, 28),
    (55, 126, 184),
    (77, 175, 74),
    (152, 78, 163),
    (255, 127, 0),
    (166, 86, 40),
    (247, 129, 191),
    (0, 139, 139),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_SIDE = 480
"""Smaller images are enlarged to this longer side, that labels can be read."""


@dataclass(frozen=True)
class Style:
    """What is drawn: regions from this confidence on, and at most so many."""

    least_confidence: float = 0.2
    most: int = 36


def label(regions: Regions, number: int, objects: list[str], attributes: list[str]) -> str:
    """Return what is written at a region: attribute and object with their confidences."""
    object_id, attribute_id = int(regions.object_ids[number]), int(regions.attribute_ids[number])
    text = f"{_name(objects, object_id)} {float(regions.object_conf[number]):.2f}"
    if attribute_id < 0:
        return text
    conf = float(regions.attribute_conf[number])
    return f"{_name(attributes, attribute_id)} {conf:.2f} / {text}"


def _name(names: list[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else f"number {number}"


def shown(regions: Regions, style: Style) -> list[int]:
    """Return the numbers of the regions that are drawn, the surest first."""
    order = np.argsort(-regions.object_conf.astype(np.float32), kind="stable")
    sure = [int(n) for n in order if float(regions.object_conf[n]) >= style.least_confidence]
    return sure[: style.most]


def draw(
    image: np.ndarray,
    regions: Regions,
    objects: list[str],
    attributes: list[str],
    style: Style | None = None,
) -> np.ndarray:
    """Return a copy of `image`, uint8 [height, width, 3] RGB, with its regions drawn over it."""
    growth = max(1.0, _LEAST_SIDE / max(image.shape[:2]))
    if growth > 1:
        size = (max(1, round(image.shape[1] * growth)), max(1, round(image.shape[0] * growth)))
        canvas = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    else:
        canvas = image.copy()
    thickness = max(1, round(max(canvas.shape[:2]) / 400))
    for number in reversed(shown(regions, style or Style())):
        colour = _COLOURS[int(regions.object_ids[number]) % len(_COLOURS)]
        left, top, right, bottom = (round(float(v) * growth) for v in regions.boxes[number])
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness)
        _write(canvas, label(regions, number, objects, attributes), (left, top), colour)
    return canvas


def _write(
    canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Write a label in white on its box' colour, moved to where the whole of it is inside."""
    scale = max(0.35, max(canvas.shape[:2]) / 1600)
    (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
    left = max(0, min(corner[0], canvas.shape[1] - width))
    top = max(0, min(corner[1], canvas.shape[0] - height - base))
    cv2.rectangle(canvas, (left, top), (left + width, top + height + base), colour, cv2.FILLED)
    white = (255, 255, 255)
    cv2.putText(canvas, text, (left, top + height), _FONT, scale, white, 1, cv2.LINE_AA)


def to_png(image: np.ndarray) -> bytes:
    """Return an image, uint8 [height, width, 3] RGB, as PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()
