"""A small corpus in the real format, drawn from a seed, for tests of the trainer."""

import hashlib
from pathlib import Path

import numpy as np

from data_pipeline.corpus.manifest import DetectorRecord, Manifest, write_manifest
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.corpus.schema import Caption, SampleMeta, key_of
from data_pipeline.corpus.writer import PackedSample, write_shard
from trawl import chance

KINDS = ("kite", "dog", "umbrella", "boat", "lamp", "chair", "apple", "drum")
COLOURS = ("red", "green", "blue", "white")
FEATURES = 32


def _sample(name: str, number: int) -> PackedSample:
    draws = chance.generator("tiny-corpus", name, number)
    count = int(draws.integers(1, 5))
    kinds = draws.integers(len(KINDS), size=count)
    colours = draws.integers(len(COLOURS), size=count)
    features = draws.normal(0, 0.1, (count, FEATURES)).astype(np.float32)
    features[np.arange(count), kinds] += 1
    features[np.arange(count), len(KINDS) + colours] += 1
    corners = np.sort(draws.uniform(0, 300, (count, 2, 2)), axis=1)
    regions = Regions(
        boxes=corners.reshape(count, 4).astype(np.float32),
        features=features,
        object_ids=kinds,
        attribute_ids=colours,
        object_conf=np.ones(count),
        attribute_conf=np.ones(count),
    )
    words = [f"a {COLOURS[c]} {KINDS[k]}" for k, c in zip(kinds, colours, strict=True)]
    image = f"{name} {number}".encode()
    meta = SampleMeta(
        captions=[Caption(text=" and ".join(words), source="alt", score=1.0)],
        tags=list(dict.fromkeys(KINDS[kind] for kind in kinds)),
        url="",
        page="",
        width=300,
        height=300,
        sha256=hashlib.sha256(image).hexdigest(),
        phash="",
    )
    members = {"json": meta.to_bytes(), "regions": encode(regions.stored_as("float16"))}
    return PackedSample(key_of(image), members)


def write(folder: Path, name: str, samples: int = 64) -> str:
    """Write a corpus called `name` and return its URI."""
    packed = sorted((_sample(name, number) for number in range(samples)), key=lambda s: s.key)
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
        captions=len(packed),
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
