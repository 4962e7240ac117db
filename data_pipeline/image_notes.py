"""What is unusual about an image that was decoded all the same; it goes into the decisions."""

import io
from typing import Any

from PIL import Image

_ORIENTATION = 0x0112
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I", "F")
_DEPTH_BYTE = 24
"""Where a PNG's header has the bits of a channel."""


def notes_on(data: bytes) -> dict[str, Any]:
    """Return the oddities of a decodable image: CMYK, 16 bits, animation, rotation; often none."""
    notes: dict[str, Any] = {}
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in ("CMYK", "YCCK"):
                notes["colours"] = "CMYK, turned into RGB"
            if image.mode in _DEEP_MODES or _is_deep_png(data):
                notes["depth"] = "16 bits, reduced to 8"
            if (frames := int(getattr(image, "n_frames", 1))) > 1:
                notes["frames"] = f"first of {frames}"
            if (turn := int(image.getexif().get(_ORIENTATION, 1))) != 1:
                notes["turned"] = f"as EXIF says, {turn}"
    except Exception as error:  # a note must never cost an image that decoded well
        notes["header"] = f"{type(error).__name__}: {error}"[:200]
    return notes


def _is_deep_png(data: bytes) -> bool:
    return data[:4] == b"\x89PNG" and len(data) > _DEPTH_BYTE and data[_DEPTH_BYTE] == 16
