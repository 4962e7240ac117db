"""Opens what `trawl regions show` draws: an image with a detector, or a sample of a corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_pipeline.corpus.manifest import NAME
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.regions import Regions
from data_pipeline.detector.protocol import RegionDetector
from data_pipeline.images import ImageError, decode
from trawl import storage
from trawl.errors import RequestError, WorkError

_MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Shown:
    """An image, uint8 [height, width, 3] RGB, with its regions and their names."""

    image: np.ndarray
    regions: Regions
    objects: list[str]
    attributes: list[str]


def open_shown(
    what: str, detector: Callable[[], RegionDetector], selection: Callable[[], str]
) -> Shown:
    """Return sample KEY of `CORPUS#KEY` (or its first), or an image with its detected regions.

    KEY is a sample's key, or the first digits of one, its number, or its address. detector and
    selection are asked for only where a file is an image.
    """
    uri, _, key = what.partition("#")
    if storage.exists(storage.join(uri, NAME)):
        return _sample(Corpus(uri), key)
    found = detector()
    image = _pixels(storage.read_bytes(what), what)
    (regions,) = found.detect([image], selection=selection())
    return Shown(image, regions, list(found.objects), list(found.attributes))


def _sample(corpus: Corpus, key: str) -> Shown:
    number = _number_of(corpus, key)
    data = corpus.image(number)
    if data is None:
        raise RequestError(f"{corpus.uri}: holds no images; show the image file itself")
    detector = corpus.manifest.detector
    image = _pixels(data, f"{corpus.uri}#{key}")
    return Shown(image, corpus.regions(number), detector.objects, detector.attributes)


def _number_of(corpus: Corpus, key: str) -> int:
    """Return the number of the sample that `key` names; RequestError if none does."""
    if not key and len(corpus):
        return 0
    for number in range(len(corpus)):
        sample = corpus[number]
        if sample.meta["url"] == key or (len(key) >= 8 and sample.key.startswith(key)):
            return number
    if key.isdigit() and int(key) < len(corpus):
        return int(key)
    raise RequestError(
        f"{corpus.uri}#{key}: no such sample; give a key, an address, or a number under "
        f"{len(corpus)}"
    )


def _pixels(data: bytes, name: str) -> np.ndarray:
    try:
        return decode(data, _MAX_PIXELS)
    except ImageError as error:
        raise WorkError(f"{name}: {error}") from error
