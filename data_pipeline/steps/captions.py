"""Collects caption sets that already lie on disk beside a folder of images.

One candidate an image, with all its captions; region phrases and questions go along unchanged.
"""

import itertools
import json

from data_pipeline.sources.annotations import Annotations, annotations_of
from data_pipeline.sources.caption_sets import SetImage, images_of
from data_pipeline.sources.recipe import CaptionsSource
from data_pipeline.sources.table_row import BAD_ROW
from data_pipeline.steps.tables import CANDIDATES, Row, partition_of, partitioned
from data_pipeline.units import Result, Work

IMAGES_PER_UNIT = 5_000


def count_images(source: CaptionsSource) -> int:
    """Return the number of images in a caption set."""
    return sum(1 for _ in images_of(source))


def run(work: Work) -> Result:
    """Write the candidates of one slice of the images of a caption set."""
    source = work.recipe.collect.source
    assert isinstance(source, CaptionsSource)
    first = int(work.unit.inputs["first"])
    images = list(itertools.islice(images_of(source), first, first + IMAGES_PER_UNIT))
    said = annotations_of(source, {image.id for image in images if image.id is not None})
    with partitioned(work.place("candidates.parquet"), CANDIDATES) as rows:
        for number, image in enumerate(images, first):
            row = _row(image, number, said)
            rows.add(partition_of(row["url"], work.recipe.collect.partitions), row)
    return {"counts": {"candidates": len(images)}}


def _row(image: SetImage, number: int, said: Annotations) -> Row:
    """Return the candidate of one image."""
    known = image.id if image.id is not None else ""
    captions = [*image.captions, *said.captions.get(known, [])]
    unread = said.unread[known]
    return {
        "url": image.file_name,
        "page": "",
        "position": number,
        "alternatives": "[]",
        "texts": json.dumps([["caption", text] for text in captions], ensure_ascii=False),
        "robots": "[]",
        "licence": image.licence,
        "reason": "" if image.file_name and image.id is not None else BAD_ROW,
        "notes": json.dumps({"unread_annotations": unread}) if unread else "{}",
        "extra": _extra(said, known),
    }


def _extra(said: Annotations, image: int | str) -> str:
    """Return region texts and questions in the form that `KEY.json` has."""
    regions, pairs = said.regions.get(image, []), said.questions.get(image, [])
    if not regions and not pairs:
        return ""
    content = {
        "regions_text": [region.model_dump() for region in regions],
        "questions": [pair.model_dump() for pair in pairs],
    }
    return json.dumps(content, ensure_ascii=False, sort_keys=True)
