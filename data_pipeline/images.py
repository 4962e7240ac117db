"""The gate through which every image passes: what it is, how large, and its pixels, safely.

Nothing is decoded before the header has said how many pixels there are, formats are told by their
first bytes and never by name or declared type, and damage is an error with a reason code.
"""

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]

_PILLOW_FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}
_QUALITY = 85
_EXIF_ORIENTATION = 0x0112
_EXIF_SEARCH_BYTES = 64 << 10
# The cap on pixels is ours and comes earlier; Pillow's own would only print a warning.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False


class ImageError(Exception):
    """An image that cannot be used; `reason` is the code that goes into the decisions."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image say: kind and size in pixels, before any rotation."""

    kind: str
    width: int
    height: int


def sniff(data: bytes) -> str:
    """Return jpeg, png, gif, webp or bmp by the first bytes, "" for anything else."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:2] == b"BM" and len(data) > 26:
        return "bmp"
    return ""


def read_header(data: bytes) -> Header:
    """Return kind and size without decoding; ImageError "not-an-image" or "bad-header"."""
    kind = sniff(data)
    if not kind:
        raise ImageError("not-an-image", repr(data[:12]))
    try:
        if kind == "jpeg":
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        else:
            with Image.open(io.BytesIO(data), formats=[_PILLOW_FORMATS[kind]]) as image:
                width, height = image.size
    except Exception as error:  # the decoders raise whatever they like on hostile input
        raise ImageError("bad-header", str(error)) from error
    if width <= 0 or height <= 0:
        raise ImageError("bad-header", f"{width}x{height}")
    return Header(kind, width, height)


def decode(data: bytes, max_pixels: int) -> Pixels:
    """Return the pixels as RGB uint8 [height, width, 3], turned as EXIF says, alpha over white.

    ImageError "too-many-pixels" comes from the header alone; "truncated" and "undecodable" from
    the decoder. Of an animation the first frame counts.
    """
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise ImageError("too-many-pixels", f"{header.width}x{header.height}")
    try:
        if header.kind == "jpeg" and not _may_be_rotated(data):
            return _decode_jpeg(data)
        return _decode_with_pillow(data, header.kind)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason_of(error), str(error)) from error


def _may_be_rotated(data: bytes) -> bool:
    """Say whether a JPEG carries EXIF data, which may turn it."""
    return b"Exif\0\0" in data[:_EXIF_SEARCH_BYTES]


def _decode_jpeg(data: bytes) -> Pixels:
    """Decode by libjpeg-turbo; colour spaces that it does not turn into RGB go to Pillow."""
    try:
        return simplejpeg.decode_jpeg(data, colorspace="RGB")  # type: ignore[no-any-return]
    except ValueError as error:
        if _reason_of(error) == "truncated":
            raise
        return _decode_with_pillow(data, "jpeg")


def _decode_with_pillow(data: bytes, kind: str) -> Pixels:
    """Decode any of the known kinds."""
    with Image.open(io.BytesIO(data), formats=[_PILLOW_FORMATS[kind]]) as image:
        image.load()
        shown: Image.Image = ImageOps.exif_transpose(image) or image
        if shown.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
            shown = Image.fromarray((np.asarray(shown) >> 8).astype(np.uint8))
        if shown.mode in ("RGBA", "LA", "PA") or "transparency" in shown.info:
            layer = shown.convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            shown = Image.alpha_composite(white, layer)
        return np.asarray(shown.convert("RGB"))


def _reason_of(error: Exception) -> str:
    """Tell an image that breaks off from one that makes no sense."""
    if isinstance(error, UnidentifiedImageError):
        return "undecodable"
    text = str(error).lower()
    signs = ("truncated", "premature", "not enough", "broken data", "incomplete")
    return "truncated" if any(sign in text for sign in signs) else "undecodable"


def shrunk(data: bytes, side: int, max_pixels: int) -> bytes:
    """Return a JPEG of an image, quality 85, whose longer side is `side`; it has to be larger.

    ImageError as `decode` raises it. Of a JPEG no more is computed than the size needs: its
    transform is scaled down to the next size above, and that is interpolated.
    """
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise ImageError("too-many-pixels", f"{header.width}x{header.height}")
    scale = side / max(header.width, header.height)
    pixels = None
    if header.kind == "jpeg" and not _may_be_rotated(data):
        pixels = _decode_jpeg_above(data, round(header.height * scale), round(header.width * scale))
    if pixels is None:
        pixels = decode(data, max_pixels)
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        way = cv2.INTER_LINEAR if scale >= 0.5 else cv2.INTER_AREA
        pixels = np.ascontiguousarray(cv2.resize(pixels, size, interpolation=way), dtype=np.uint8)
    return simplejpeg.encode_jpeg(pixels, quality=_QUALITY, colorsubsampling="420")  # type: ignore[no-any-return]


def _decode_jpeg_above(data: bytes, height: int, width: int) -> Pixels | None:
    """Return the smallest form [>=height, >=width, 3] that decodes cheaply; None if none does."""
    try:
        return simplejpeg.decode_jpeg(  # type: ignore[no-any-return]
            data, colorspace="RGB", min_height=height, min_width=width
        )
    except ValueError:
        return None


def thumbnail(pixels: Pixels, side: int) -> bytes:
    """Return a JPEG of `pixels` whose longer side is at most `side`."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: Any = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=80)  # type: ignore[no-any-return]
