"""Collects caption sets that already lie on disk: COCO caption JSON beside a folder of images.

One candidate an image, with all its captions; region phrases and questions go along unchanged.
"""

import json
from typing import Any

from data_pipeline.corpus.schema import QuestionAnswer, RegionText
from data_pipeline.recipe import CaptionsSource
from data_pipeline.steps.tables import CANDIDATES, Row, partition_of, partitioned
from data_pipeline.units import Result, Work
from trawl import storage
from trawl.errors import RequestError

IMAGES_PER_UNIT = 5_000


def count_images(source: CaptionsSource) -> int:
    """Return the number of images in a caption set."""
    return len(_read(source.captions, "images"))


def run(work: Work) -> Result:
    """Write the candidates of one slice of the images of a caption set."""
    source = work.recipe.collect.source
    assert isinstance(source, CaptionsSource)
    first = int(work.unit.inputs["first"])
    images = _read(source.captions, "images")[first : first + IMAGES_PER_UNIT]
    wanted = {image["id"] for image in images}
    texts = _by_image(source.captions, "annotations", wanted)
    phrases = _by_image(source.regions, "annotations", wanted)
    questions = _by_image(source.questions, "annotations", wanted)
    with partitioned(work.place("candidates.parquet"), CANDIDATES) as rows:
        for number, image in enumerate(images, first):
            found = image["id"]
            row = _row(image, number, texts.get(found, []))
            row["extra"] = _extra(phrases.get(found, []), questions.get(found, []))
            rows.add(partition_of(row["url"], work.recipe.collect.partitions), row)
    return {"counts": {"candidates": len(images)}}


def _read(place: str | None, key: str) -> list[dict[str, Any]]:
    """Return one list of a COCO-like JSON file; RequestError says what it lacks."""
    if place is None:
        return []
    content = storage.read_json(place)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise RequestError(f"{place}: no list `{key}`; it must be a COCO-like JSON file")
    return content[key]  # type: ignore[no-any-return]


def _by_image(place: str | None, key: str, wanted: set[Any]) -> dict[Any, list[dict[str, Any]]]:
    """Group the annotations of the wanted images by image."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for annotation in _read(place, key):
        if annotation.get("image_id") in wanted:
            found.setdefault(annotation["image_id"], []).append(annotation)
    return found


def _row(image: dict[str, Any], number: int, annotations: list[dict[str, Any]]) -> Row:
    """Return the candidate of one image."""
    texts = [["caption", str(annotation.get("caption", ""))] for annotation in annotations]
    return {
        "url": str(image["file_name"]),
        "page": "",
        "position": number,
        "alternatives": "[]",
        "texts": json.dumps(texts, ensure_ascii=False),
        "robots": "[]",
        "licence": str(image.get("license", "")),
        "reason": "",
        "notes": "{}",
        "extra": "",
    }


def _extra(phrases: list[dict[str, Any]], questions: list[dict[str, Any]]) -> str:
    """Return region texts and questions in the form that `KEY.json` has."""
    regions = [RegionText(box=_corners(phrase), phrase=str(phrase["phrase"])) for phrase in phrases]
    pairs = [
        QuestionAnswer(question=str(entry["question"]), answer=str(entry["answer"]))
        for entry in questions
    ]
    if not regions and not pairs:
        return ""
    content = {
        "regions_text": [region.model_dump() for region in regions],
        "questions": [pair.model_dump() for pair in pairs],
    }
    return json.dumps(content, ensure_ascii=False, sort_keys=True)


def _corners(phrase: dict[str, Any]) -> list[float]:
    """Return a box as x1 y1 x2 y2, from COCO's x y width height."""
    left, top, width, height = (float(number) for number in phrase["bbox"])
    return [left, top, left + width, top + height]
