"""The forms in which one picture lies on the web: re-encoded, resized, cropped, cut off."""

from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg

_EXTENSIONS = {"jpeg": "jpg", "webp": "webp", "png": "png", "gif": "gif"}
_STRIP_ASPECT = 5.0


@dataclass(frozen=True)
class Variant:
    """How to make a file from the rendered picture.

    `size` is the exact width and height, None for the rendered size. `crop` is the share cut off at
    each side before. `strip` keeps only a wide strip. `kept_bytes` below 1 cuts the file off.
    """

    name: str = "original"
    size: tuple[int, int] | None = None
    crop: float = 0.0
    strip: bool = False
    encoding: str = "jpeg"
    quality: int = 88
    kept_bytes: float = 1.0


ORIGINAL = Variant()
"""The picture as rendered."""


@dataclass(frozen=True)
class ImageFile:
    """One file of the store: a scene in some variant, or a flat graphic.

    `picture` is the id of what it shows; equal pictures have equal ids whatever the variant.
    """

    source: str
    index: int
    variant: Variant = ORIGINAL

    @property
    def picture(self) -> str:
        """The id of the underlying picture."""
        return f"{self.source}-{self.index:06d}"

    @property
    def name(self) -> str:
        """The path of the file in the store."""
        extension = _EXTENSIONS[self.variant.encoding]
        return f"{self.source}/{self.index:06d}-{self.variant.name}.{extension}"


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return `size` times `factor`, in whole pixels."""
    return round(size[0] * factor), round(size[1] * factor)


def with_shorter_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return `size` scaled so that its shorter side is exactly `side`."""
    width, height = size
    if width <= height:
        return side, round(height * side / width)
    return round(width * side / height), side


def strip_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the wide strip that is made from a picture of `size`."""
    return round(_STRIP_ASPECT * 304), 304


def encode_variant(image: np.ndarray, variant: Variant) -> bytes:
    """Return the file that `variant` makes of `image`, uint8 [height, width, 3] RGB."""
    height, width = image.shape[:2]
    if variant.crop:
        columns = max(1, round(width * variant.crop))
        rows = max(1, round(height * variant.crop))
        image = image[rows : height - rows, columns : width - columns]
    if variant.strip:
        rows = round(width / _STRIP_ASPECT)
        top = (height - rows) // 2
        image = image[top : top + rows]
    if variant.size is not None and variant.size != (image.shape[1], image.shape[0]):
        smaller = variant.size[0] < image.shape[1]
        way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        image = cv2.resize(image, variant.size, interpolation=way)
    data = _encode(np.ascontiguousarray(image), variant)
    return data[: int(len(data) * variant.kept_bytes)]


def _encode(image: np.ndarray, variant: Variant) -> bytes:
    if variant.encoding == "jpeg":
        return bytes(
            simplejpeg.encode_jpeg(
                image, quality=variant.quality, colorspace="RGB", colorsubsampling="420"
            )
        )
    options = [cv2.IMWRITE_WEBP_QUALITY, variant.quality] if variant.encoding == "webp" else []
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(f".{_EXTENSIONS[variant.encoding]}", pixels, options)
    if not done:
        raise ValueError(f"no encoder for {variant.encoding}")
    return bytes(data)
