"""Step 2, filter images: size, shape, decodability, entropy, natural or not; perceptual hash.

LAIT keeps images of more than 300 px on each side and drops what is not a photograph of the world.
"""

import collections
import heapq
import json
from typing import BinaryIO

from data_pipeline.images import ImageError, Pixels, decode, thumbnail
from data_pipeline.recipe import ImageFilter
from data_pipeline.steps.image_classifiers import classify
from data_pipeline.steps.looks import Looks, looks_of
from data_pipeline.steps.tables import IMAGES, LOOKS, Row, read_rows, write_rows
from data_pipeline.takedowns import FORGOTTEN, Takedowns
from data_pipeline.units import Result, Work
from trawl import storage

THUMBNAIL_SIDE = 192


def run(work: Work) -> Result:
    """Judge each image of one download unit."""
    counts: collections.Counter[str] = collections.Counter()
    rows = []
    taken = Takedowns.of(work.out)
    places = work.earlier("download", "images.parquet")
    images = read_rows(places[work.unit.name], IMAGES.names)
    distinct = {row["sha256"]: row for row in images if not row["reason"]}
    with storage.open_read(work.earlier("download", "images.bin")[work.unit.name]) as file:
        for row in sorted(distinct.values(), key=lambda row: row["offset"]):
            verdict = judge_row(file, row, work.recipe.image_filter)
            if taken.take_image(verdict["sha256"], verdict["phash"]):
                verdict = {**verdict, "reason": FORGOTTEN, "phash": "", "scores": "{}"}
            counts[verdict["reason"] or "passed"] += 1
            rows.append(verdict)
    write_rows(work.place("looks.parquet"), rows, LOOKS)
    return {"counts": dict(counts)}


def judge_row(file: BinaryIO, row: Row, settings: ImageFilter) -> Row:
    """Judge one image that lies in a file of images; return its row of looks."""
    verdict: Row = {
        "sha256": row["sha256"],
        "reason": "",
        "width": row["width"],
        "height": row["height"],
        "phash": "",
        "scores": "{}",
    }
    reason = reason_of_size(row["width"], row["height"], settings)
    if reason:
        return {**verdict, "reason": reason}
    file.seek(row["offset"])
    try:
        pixels = decode(file.read(row["size"]), settings.max_pixels)
    except ImageError as error:
        return {**verdict, "reason": error.reason}
    return {**verdict, **_seen(pixels, settings)}


def _seen(pixels: Pixels, settings: ImageFilter) -> Row:
    """Return what the pixels add to the verdict."""
    looks = looks_of(pixels, settings.natural.model)
    scores = {
        "entropy": round(looks.entropy, 3),
        "natural": round(looks.natural, 3),
        **looks.statistics,
    }
    reason = reason_of_looks(looks, settings)
    if not reason:
        reason, evidence = classify(pixels, settings)
        scores |= evidence
    return {
        "reason": reason,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "phash": looks.phash,
        "scores": json.dumps(scores, sort_keys=True),
    }


def reason_of_size(width: int, height: int, settings: ImageFilter) -> str:
    """Return why the size alone rules an image out, "" if it does not."""
    if min(width, height) < settings.min_side:
        return "too-small"
    if max(width, height) > settings.max_aspect * min(width, height):
        return "bad-aspect"
    if width * height > settings.max_pixels:
        return "too-many-pixels"
    return ""


def reason_of_looks(looks: Looks, settings: ImageFilter) -> str:
    """Return why the pixels rule an image out, "" if they do not."""
    if looks.entropy < settings.min_entropy:
        return "low-entropy"
    if settings.natural.enabled and looks.natural < settings.natural.threshold:
        return "unnatural"
    return ""


def smallest(rows: list[Row], count: int) -> list[Row]:
    """Return the `count` rows with the smallest hashes: a sample that is the same each time."""
    return heapq.nsmallest(count, rows, key=lambda row: row["sha256"])


def thumbnail_of(data: bytes, settings: ImageFilter) -> bytes | None:
    """Return a thumbnail of image bytes, None if they cannot be decoded."""
    try:
        return thumbnail(decode(data, settings.max_pixels), THUMBNAIL_SIDE)
    except ImageError:
        return None
