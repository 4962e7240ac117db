"""Finds the regions of each image that is still wanted: that passed and has a text left.

Images are detected once, whatever number of addresses they have, in the order of their hashes and
in batches fixed by the recipe, so that the regions do not depend on how the images came in.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from data_pipeline.corpus.manifest import DetectorRecord
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.images import decode
from data_pipeline.recipe import CorpusRecipe, RegionSettings
from data_pipeline.steps.tables import (
    DETECTIONS,
    Row,
    read_slices,
    write_rows,
)
from data_pipeline.units import Result, Work
from trawl import storage
from trawl.errors import RequestError


@functools.lru_cache(maxsize=1)
def loaded_detector(
    name: str,
    weights: str,
    class_probabilities: bool = False,
    device: str = "cpu",
    number: str = "float32",
) -> Any:
    """Return the detector, loaded once in a process; one thread, for others compute beside us.

    Detectors that cannot choose a device compute on the CPU.
    """
    import torch

    from data_pipeline.detector.backends import BACKENDS, Choices, load_detector
    from data_pipeline.detector.c4_inference import Computing

    torch.set_num_threads(1)
    free = name in BACKENDS and "computing" in BACKENDS[name].choices
    if number != "float32" and not free:
        raise RequestError(f"regions.number: {name} computes in float32 alone; leave the key out")
    chosen = free and (device, number) != ("cpu", "float32")
    # None, not False: a detector without the choice refuses both values.
    choices = Choices(
        computing=Computing(device, number) if chosen else None,
        class_probabilities=class_probabilities or None,
    )
    return load_detector(name, weights, choices)


def _detector_of(recipe: CorpusRecipe) -> Any:
    """Return the detector of a recipe, on a GPU where its tasks have one."""
    settings: RegionSettings = recipe.regions
    return loaded_detector(
        settings.detector,
        settings.weights,
        settings.class_probabilities,
        "cuda" if recipe.compute.gpus else "cpu",
        settings.number,
    )


def detector_record(recipe: CorpusRecipe) -> DetectorRecord:
    """Return what the manifest says of the detector."""
    settings = recipe.regions
    detector = _detector_of(recipe)
    return DetectorRecord(
        name=detector.name,
        weights_sha256=detector.weights_sha256,
        selection=settings.selection,
        features=settings.features,
        feature_size=detector.feature_size,
        objects=list(detector.objects),
        attributes=list(detector.attributes),
    )


def run(work: Work) -> Result:
    """Detect one group of the plan; write the regions blobs and a table of what they show."""
    images = read_slices(work.earlier("select", "plan.parquet"), work.unit.inputs["slices"])
    bins = work.earlier("download", "images.bin")
    images = [{**row, "uri": bins[row["unit"]]} for row in images]
    rows = []
    offset = 0
    detector = detector_record(work.recipe)
    with storage.open_atomic(work.place("regions.bin")) as file:
        for row, regions in _detected(images, work.recipe):
            stored = regions.stored_as(work.recipe.regions.features)
            blob = encode(stored, detector.stamp())
            file.write(blob)
            spot = {"offset": offset, "size": len(blob)}
            rows.append({"sha256": row["sha256"], **spot, **shown(stored)})
            offset += len(blob)
    write_rows(work.place("detections.parquet"), rows, DETECTIONS)
    regions_found = sum(len(row["object_ids"]) for row in rows)
    told = detector.model_dump()
    storage.write_json(work.place("detector.json"), told)
    return {"counts": {"images": len(rows), "regions": regions_found}, "detector": told}


def shown(regions: Regions) -> Row:
    """Return labels and confidences of regions as lists, for the scorer."""
    return {
        "object_ids": regions.object_ids.tolist(),
        "object_conf": regions.object_conf.astype(np.float32).tolist(),
        "attribute_ids": regions.attribute_ids.tolist(),
        "attribute_conf": regions.attribute_conf.astype(np.float32).tolist(),
    }


def _detected(images: list[Row], recipe: CorpusRecipe) -> Iterator[tuple[Row, Regions]]:
    """Yield each image's row with its regions, batch by batch."""
    settings = recipe.regions
    detector = _detector_of(recipe)
    for start in range(0, len(images), settings.batch):
        batch = images[start : start + settings.batch]
        pixels = [decode(data, recipe.image_filter.max_pixels) for data in read_spots(batch)]
        found: list[Regions] = detector.detect(pixels, selection=settings.selection)
        yield from zip(batch, found, strict=True)


def read_spots(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield the bytes at each row's uri, offset and size, opening no file twice in a row."""
    uri, file = "", None
    with contextlib.ExitStack() as stack:
        for row in rows:
            if row["uri"] != uri or file is None:
                stack.close()
                uri, file = row["uri"], stack.enter_context(storage.open_read(row["uri"]))
            yield _read_at(file, row)


def _read_at(file: BinaryIO, row: Row) -> bytes:
    file.seek(row["offset"])
    return file.read(row["size"])


def tags_of(detection: Row, objects: list[str]) -> list[str]:
    """Return the names of the detected objects by confidence, each once."""
    order = np.argsort(-np.asarray(detection["object_conf"], dtype=np.float32), kind="stable")
    names = (objects[detection["object_ids"][number]] for number in order)
    return list(dict.fromkeys(names))
