"""Pictures in a report: thumbnails held in the page, with boxes drawn over them."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

_COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)")


@dataclass(frozen=True)
class Box:
    """A box over a picture, corners as shares of its width and height (0 to 1)."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str


def figure(
    jpeg: bytes,
    caption: str,
    note: str = "",
    boxes: Sequence[Box] = (),
    frame: Literal["", "good", "bad"] = "",
) -> str:
    """Return a figure of a JPEG thumbnail with `boxes`, a caption and a fainter note."""
    data = base64.b64encode(jpeg).decode()
    rectangles = "".join(
        f'<rect x="{box.x1 * 1000:.1f}" y="{box.y1 * 1000:.1f}" '
        f'width="{(box.x2 - box.x1) * 1000:.1f}" height="{(box.y2 - box.y1) * 1000:.1f}" '
        f'stroke="{_COLOURS[number % len(_COLOURS)]}"><title>{escape(box.label)}</title></rect>'
        for number, box in enumerate(boxes)
    )
    overlay = (
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none">{rectangles}</svg>'
        if rectangles
        else ""
    )
    shown_note = f'<div class="note">{escape(note)}</div>' if note else ""
    kind = f' class="{frame}-frame"' if frame else ""
    return (
        f'<figure{kind}><div class="picture"><img alt="{escape(caption)}" loading="lazy" '
        f'src="data:image/jpeg;base64,{data}">{overlay}</div>'
        f"<figcaption>{escape(caption)}{shown_note}</figcaption></figure>"
    )


def gallery(figures: Iterable[str]) -> str:
    """Return figures in a grid that fits the window."""
    return f'<div class="gallery">{"".join(figures)}</div>'
