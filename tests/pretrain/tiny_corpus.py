"""A small corpus in the real format, drawn from a seed, for tests of the trainer."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_pipeline.corpus.manifest import DetectorRecord, Manifest, write_manifest
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.corpus.schema import Caption, QuestionAnswer, RegionText, SampleMeta, key_of
from data_pipeline.corpus.writer import PackedSample, write_shard
from trawl import chance

KINDS = ("kite", "dog", "umbrella", "boat", "lamp", "chair", "apple", "drum")
COLOURS = ("red", "green", "blue", "white")
FEATURES = 32
SIDE = 300


@dataclass(frozen=True)
class Extras:
    """What a corpus holds beside captions, tags and sure regions; each changes nothing else."""

    class_probs: int = 0
    """Classes of a distribution kept for each region; 0: none."""
    regions_text: bool = False
    questions: bool = False
    images: bool = False
    unsure: bool = False
    """Confidences drawn between 0.05 and 1 instead of all 1."""
    attributes: bool = True
    tags: bool = True
    captions: bool = True
    regions: bool = True
    broken: int = -1
    """Number of the one sample that has a feature which is not a number; -1: none."""
    loud: frozenset[int] = frozenset()
    """Numbers of the samples whose features are a hundred times as large."""


def _regions(draws: np.random.Generator, name: str, number: int, extras: Extras) -> Regions:
    count = int(draws.integers(1, 5))
    kinds = draws.integers(len(KINDS), size=count)
    colours = draws.integers(len(COLOURS), size=count)
    features = draws.normal(0, 0.1, (count, FEATURES)).astype(np.float32)
    features[np.arange(count), kinds] += 1
    features[np.arange(count), len(KINDS) + colours] += 1
    corners = np.sort(draws.uniform(0, SIDE, (count, 2, 2)), axis=1)
    if number == extras.broken:
        features[0, 0] = np.nan
    if number in extras.loud:
        features *= 100
    others = chance.generator("tiny-corpus", name, number, "extras")
    sure = others.uniform(0.05, 1, (2, count)) if extras.unsure else np.ones((2, count))
    probabilities = None
    if extras.class_probs:
        scores = others.uniform(0, 1, (count, extras.class_probs))
        scores[np.arange(count), kinds % extras.class_probs] += 3
        probabilities = scores / scores.sum(axis=1, keepdims=True)
    return Regions(
        boxes=corners.reshape(count, 4).astype(np.float32),
        features=features,
        object_ids=kinds,
        attribute_ids=colours if extras.attributes else np.full(count, -1),
        object_conf=sure[0],
        attribute_conf=sure[1],
        class_probs=probabilities,
    )


def _picture(regions: Regions) -> bytes:
    """Draw the regions as filled boxes, coloured by attribute, and return the PNG."""
    image = Image.new("RGB", (SIDE, SIDE), "grey")
    brush = ImageDraw.Draw(image)
    for box, colour in zip(regions.boxes.tolist(), regions.attribute_ids, strict=True):
        brush.rectangle(box, fill=COLOURS[int(colour)])
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def key(name: str, number: int) -> str:
    """Return the key of sample `number` of a corpus called `name` without images."""
    return key_of(f"{name} {number}".encode())


def _sample(name: str, number: int, extras: Extras) -> PackedSample:
    regions = _regions(chance.generator("tiny-corpus", name, number), name, number, extras)
    kinds = [KINDS[kind] for kind in regions.object_ids]
    colours = [COLOURS[colour] for colour in regions.attribute_ids]
    words = [f"a {colour} {kind}" for colour, kind in zip(colours, kinds, strict=True)]
    image = _picture(regions) if extras.images else f"{name} {number}".encode()
    caption = Caption(text=" and ".join(words), source="alt", score=1.0)
    meta = SampleMeta(
        captions=[caption] if extras.captions else [],
        tags=list(dict.fromkeys(kinds)) if extras.tags else [],
        url="",
        page="",
        width=SIDE,
        height=SIDE,
        sha256=hashlib.sha256(image).hexdigest(),
        phash="",
        regions_text=[
            RegionText(box=box, phrase=phrase)
            for box, phrase in zip(regions.boxes.tolist(), words, strict=True)
            if extras.regions_text
        ],
        questions=[
            QuestionAnswer(question=f"what colour is the {kind}", answer=colour)
            for kind, colour in zip(kinds, colours, strict=True)
            if extras.questions
        ],
    )
    members = {"json": meta.to_bytes(), "regions": encode(_kept(regions, extras))}
    if extras.images:
        members["png"] = image
    return PackedSample(key_of(image), members)


def _kept(regions: Regions, extras: Extras) -> Regions:
    """Return the regions as they are stored, none where the corpus has none."""
    if extras.regions:
        return regions.stored_as("float16")
    arrays: dict[str, Any] = {
        name: value[:0] for name, value in vars(regions).items() if value is not None
    }
    return Regions(**arrays).stored_as("float16")


def write(folder: Path, name: str, samples: int = 64, **extras: Any) -> str:
    """Write a corpus called `name` with `extras`, fields of Extras, and return its URI."""
    wanted = Extras(**extras)
    packed = sorted(
        (_sample(name, number, wanted) for number in range(samples)), key=lambda s: s.key
    )
    half = len(packed) // 2
    shards = [
        write_shard(str(folder), n, part) for n, part in enumerate((packed[:half], packed[half:]))
    ]
    detector = DetectorRecord(
        name="tiny",
        weights_sha256="0" * 64,
        selection="all",
        features="float16",
        feature_size=FEATURES,
        objects=list(KINDS),
        attributes=list(COLOURS),
    )
    manifest = Manifest(
        name=name,
        samples=len(packed),
        captions=len(packed) if wanted.captions else 0,
        regions=sum(shard.regions for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        recipe_sha256="0" * 64,
        detector=detector,
        funnel={"write/kept": len(packed)},
        shards=shards,
        decisions=[],
    )
    write_manifest(str(folder), manifest)
    return str(folder)
