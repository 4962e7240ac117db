"""The gate of images: kinds by their bytes, sizes before pixels, damage as reasons."""

import contextlib
import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from data_pipeline.images import Header, ImageError, decode, read_header, shrunk, sniff, thumbnail
from trawl import chance

MANY = 10**8


def _noise(height: int = 40, width: int = 60) -> np.ndarray:
    return chance.generator("image").integers(0, 256, (height, width, 3)).astype(np.uint8)


def _saved(form: str, **options: object) -> bytes:
    sink = io.BytesIO()
    mode = str(options.pop("mode", "RGB"))
    Image.fromarray(_noise()).convert(mode).save(sink, form, **options)
    return sink.getvalue()


def _png_claiming(width: int, height: int) -> bytes:
    """A small PNG whose header claims any size and whose data inflates to a lot of zeros."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000_000), 9)
    chunks = b""
    for kind, content in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        chunks += struct.pack(">I", len(content)) + kind + content + checksum
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_each_kind_is_told_by_its_bytes_and_decoded(form: str) -> None:
    data = _saved(form)
    header = read_header(data)
    assert (header.kind, header.width, header.height) == (form.lower(), 60, 40)
    pixels = decode(data, MANY)
    assert pixels.shape == (40, 60, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colour_spaces_become_rgb(mode: str) -> None:
    assert decode(_saved("JPEG", mode=mode), MANY).shape == (40, 60, 3)


def test_transparency_lies_over_white() -> None:
    sink = io.BytesIO()
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(sink, "PNG")
    assert (decode(sink.getvalue(), MANY) == 255).all()


def test_exif_turns_the_image() -> None:
    image, sink = Image.fromarray(_noise()), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(sink, "JPEG", exif=exif, quality=95)
    assert decode(sink.getvalue(), MANY).shape == (60, 40, 3)


@pytest.mark.parametrize("data", [b"", b"<svg></svg>", b"<html>", b"%PDF-1.4", b"\x00" * 64])
def test_what_is_no_image_says_so(data: bytes) -> None:
    assert sniff(data) == ""
    with pytest.raises(ImageError, match="not-an-image"):
        read_header(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_cut_image_is_an_error_with_a_reason(form: str) -> None:
    data = _saved(form)
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) // 2], MANY)
    assert caught.value.reason in ("truncated", "undecodable", "bad-header")
    with pytest.raises(ImageError) as caught:
        decode(data[:12], MANY)
    assert caught.value.reason in ("bad-header", "truncated", "undecodable")


def test_a_cut_jpeg_is_truncated() -> None:
    data = _saved("JPEG")
    with pytest.raises(ImageError, match="truncated"):
        decode(data[: len(data) * 3 // 4], MANY)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = _png_claiming(60_000, 60_000)
    started = time.process_time()
    for _ in range(20):
        with pytest.raises(ImageError, match="too-many-pixels"):
            decode(bomb, 50_000_000)
    assert time.process_time() - started < 1.0


def test_random_damage_never_gets_out_as_another_error() -> None:
    draw = chance.generator("damage")
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        good = _saved(form)
        for _ in range(60):
            bad = bytearray(good)
            for place in draw.integers(0, len(bad), 6):
                bad[place] = int(draw.integers(0, 256))
            with contextlib.suppress(ImageError):
                decode(bytes(bad), 100_000)


def test_thumbnails_keep_the_shape() -> None:
    small = decode(thumbnail(_noise(400, 600), 192), MANY)
    assert small.shape == (128, 192, 3)
    assert decode(thumbnail(_noise(), 192), MANY).shape == (40, 60, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(400, 300), (100, 800), (2500, 1300)])
def test_larger_images_are_kept_smaller(form: str, size: tuple[int, int]) -> None:
    grey = Image.fromarray(_noise(6, 8)).convert("L").convert("RGB")
    clouds = grey.resize(size, Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    clouds.save(sink, form)
    data = shrunk(sink.getvalue(), 200, MANY)
    width, height = (max(1, round(side * 200 / max(size))) for side in size)
    assert read_header(data) == Header("jpeg", width, height)
    came = Image.fromarray(decode(sink.getvalue(), MANY))
    reference = np.asarray(came.resize((width, height), Image.Resampling.BOX), float)
    assert np.abs(decode(data, MANY) - reference).mean() < 12
    assert shrunk(sink.getvalue(), 200, MANY) == data


def test_a_smaller_form_is_turned_as_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = io.BytesIO()
    Image.fromarray(_noise()).save(sink, "JPEG", exif=exif)
    assert read_header(shrunk(sink.getvalue(), 30, MANY)) == Header("jpeg", 20, 30)


def test_what_cannot_be_made_smaller_has_a_reason() -> None:
    for data, reason in (
        (_png_claiming(60_000, 60_000), "too-many-pixels"),
        (_saved("JPEG")[:-300], "truncated"),
        (b"no image", "not-an-image"),
    ):
        with pytest.raises(ImageError) as error:
            shrunk(data, 30, MANY)
        assert error.value.reason == reason
