"""Small corpora for the tests, written by the real writer from random but fixed arrays."""

import hashlib

import numpy as np

from data_pipeline.corpus.decisions import write_decisions
from data_pipeline.corpus.manifest import DetectorRecord, Manifest, write_manifest
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.corpus.schema import Caption, SampleMeta, key_of
from data_pipeline.corpus.writer import PackedSample, write_shard
from trawl import chance

FEATURES = 32
OBJECTS = ["cup", "drum", "kite"]
ATTRIBUTES = ["red", "blue"]


def regions(number: int, form: str = "float16", count: int | None = None) -> Regions:
    """Return some regions, as many as `number` says or `count`."""
    draw = chance.generator("test regions", number)
    size = number % 5 if count is None else count
    corners = draw.random((size, 2, 2)).astype(np.float32) * 300
    return Regions(
        boxes=np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1),
        features=draw.standard_normal((size, FEATURES)).astype(np.float32),
        object_ids=draw.integers(0, len(OBJECTS), size).astype(np.int16),
        attribute_ids=draw.integers(-1, len(ATTRIBUTES), size).astype(np.int16),
        object_conf=draw.random(size).astype(np.float16),
        attribute_conf=draw.random(size).astype(np.float16),
    ).stored_as(form)


def packed(number: int, form: str = "float16") -> PackedSample:
    """Return one sample; its image bytes are no image, for nothing here decodes them."""
    image = b"image" * (number + 1)
    meta = SampleMeta(
        captions=[Caption(text=f"A caption, number {number} é", source="alt", score=0.5)],
        tags=["cup"],
        url=f"http://a.test/{number}.jpg",
        page="http://a.test/",
        width=640,
        height=480,
        sha256=hashlib.sha256(image).hexdigest(),
        phash="0123456789abcdef",
    )
    members = {"jpg": image, "json": meta.to_bytes(), "regions": encode(regions(number, form))}
    return PackedSample(key_of(image), members)


def write_corpus(uri: str, counts: tuple[int, ...] = (5, 3), form: str = "float16") -> Manifest:
    """Write a whole corpus with one shard for each of `counts`."""
    samples = sorted((packed(n, form) for n in range(sum(counts))), key=lambda sample: sample.key)
    shards, start = [], 0
    for number, count in enumerate(counts):
        shards.append(write_shard(uri, number, samples[start : start + count]))
        start += count
    manifest = Manifest(
        name="test",
        samples=start,
        captions=start,
        regions=sum(shard.regions for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        recipe_sha256="0" * 64,
        detector=DetectorRecord(
            name="demo",
            weights_sha256="1" * 64,
            selection="butd-10-100",
            features=form,
            feature_size=FEATURES,
            objects=OBJECTS,
            attributes=ATTRIBUTES,
        ),
        funnel={"collect/opt-out": 1, "write/kept": 1},
        shards=shards,
        decisions=[write_decisions(uri, 0, [decision("b", False), decision("a", True)])],
    )
    write_manifest(uri, manifest)
    return manifest


def decision(url: str, kept: bool) -> dict[str, object]:
    """Return one row of decisions."""
    return {
        "url": url,
        "page": "p",
        "position": 0,
        "key": "",
        "step": "write" if kept else "collect",
        "kept": kept,
        "reason": "kept" if kept else "opt-out",
        "text": "",
        "source": "",
        "score": 0.5,
        "scores": "{}",
        "width": 1,
        "height": 1,
        "sha256": "",
        "phash": "",
    }
