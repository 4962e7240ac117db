"""A corpus of noise whose texts and regions are as long as real ones, for `bench/train.py`."""

import hashlib
import io
import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.corpus.manifest import DetectorRecord, Manifest, write_manifest
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.corpus.schema import Caption, RegionText, SampleMeta, key_of
from data_pipeline.corpus.writer import PackedSample, write_shard

# WordPiece tokens of a caption, [CLS] and [SEP] left out: how many of 24,819 captions of COCO
# val2017 have so many (bert-base-uncased); those of more than 24 count as 24.
CAPTIONS = {7: 83, 8: 899, 9: 3227, 10: 4468, 11: 4662, 12: 3911, 13: 2767, 14: 1798, 15: 1086,
            16: 687, 17: 404, 18: 263, 19: 165, 20: 110, 21: 69, 22: 58, 23: 27,
            24: 135}  # fmt: skip
# The same of 164 questions: VQA v2, val2014, in the order of its file.
QUESTIONS = {4: 4, 5: 17, 6: 32, 7: 29, 8: 33, 9: 24, 10: 14, 11: 5, 12: 2, 13: 3, 19: 1}
# Captions among LXMERT's 9.18 million sentences: five each of COCO's 118 thousand images. The rest
# are questions, and phrases of Visual Genome's regions, which have 5 words (Krishna et al., 2017)
# and count as questions here, so as somewhat longer than they are.
LXMERT_CAPTIONS = 0.064
# Regions surer than 0.2, by the published rule of 10 to 100, and tokens of their tags: of the ten
# COCO images whose output of the original bottom-up attention airsplay/py-bottom-up-attention
# holds, 36 regions at most. All of train2014 have 31.9 on average: 2,643,089 of 82,783 images
# (jnhwkim/ban-vqa, tools/adaptive_detection_features_converter.py).
IMAGES = ((24, 7), (24, 12), (34, 15), (36, 20), (35, 18), (27, 15), (32, 19), (33, 17), (36, 22),
          (25, 11))  # fmt: skip
# Tokens of the labels of 1,920 boxes of COCO, X-VLM's phrases here.
PHRASES = {1: 1594, 2: 240, 3: 86}
OBJECTS, ATTRIBUTES, FEATURES, BOXES = 1600, 400, 2048, 8
WORDS = ["".join(letters) for letters in itertools.product("bdfgklmnprst", "aeiou", "bdfgklmnprst",
                                                           "aeiou")][:OBJECTS]  # fmt: skip


def drawn(draw: np.random.Generator, counts: Mapping[int, int]) -> int:
    """Return one of the keys of `counts`, each as likely as it is frequent."""
    shares = np.array(list(counts.values())) / sum(counts.values())
    return int(draw.choice(list(counts), p=shares))


def said(draw: np.random.Generator, counts: Mapping[int, int]) -> str:
    """Return a text of as many words, one token each, as `counts` has it."""
    return " ".join(draw.choice(WORDS, drawn(draw, counts)))


def sample(number: int, captions: float) -> PackedSample:
    """Return an image of noise with regions, tags, a text and phrases of real lengths.

    captions: the share of texts that are as long as captions; others are as long as questions.
    """
    draw = np.random.default_rng(number)
    count, tags = IMAGES[int(draw.integers(len(IMAGES)))]
    named = draw.permutation(OBJECTS)[:tags]
    corners = np.sort(draw.random((count, 2, 2), dtype=np.float32) * 256, axis=1)
    scores = draw.random((count, OBJECTS + 1), dtype=np.float32)
    regions = Regions(
        boxes=corners.reshape(count, 4),
        features=np.maximum(draw.standard_normal((count, FEATURES), dtype=np.float32), 0),
        object_ids=named[np.arange(count) % tags],
        attribute_ids=draw.integers(ATTRIBUTES, size=count),
        object_conf=draw.uniform(0.2, 1, count),
        attribute_conf=draw.uniform(0.2, 1, count),
        class_probs=scores / scores.sum(axis=1, keepdims=True),
    ).stored_as("float16")
    stream = io.BytesIO()
    Image.fromarray(draw.integers(256, size=(256, 256, 3), dtype=np.uint8)).save(stream, "PNG")
    image = stream.getvalue()
    lengths = CAPTIONS if draw.random() < captions else QUESTIONS
    meta = SampleMeta(
        captions=[Caption(text=said(draw, lengths), source="alt", score=1.0)],
        tags=[WORDS[name] for name in named],
        url="",
        page="",
        width=256,
        height=256,
        sha256=hashlib.sha256(image).hexdigest(),
        phash="",
        regions_text=[
            RegionText(box=box, phrase=said(draw, PHRASES))
            for box in corners.reshape(count, 4)[:BOXES].tolist()
        ],
    )
    members = {"json": meta.to_bytes(), "regions": encode(regions), "png": image}
    return PackedSample(key_of(image), members)


def write(folder: Path, samples: int, captions: float = 1.0) -> Corpus:
    """Write a corpus of `samples`, of whose texts a share are `captions`, and return it."""
    drawn_samples = (sample(number, captions) for number in range(samples))
    made = sorted(drawn_samples, key=lambda each: each.key)
    shard = write_shard(str(folder), 0, made)
    detector = DetectorRecord(
        name="bench",
        weights_sha256="0" * 64,
        selection="butd-10-100",
        features="float16",
        feature_size=FEATURES,
        objects=WORDS,
        attributes=[f"attribute{number}" for number in range(ATTRIBUTES)],
    )
    manifest = Manifest(
        name="bench",
        samples=samples,
        captions=samples,
        regions=shard.regions,
        bytes=shard.bytes,
        recipe_sha256="0" * 64,
        detector=detector,
        funnel={},
        shards=[shard],
        decisions=[],
    )
    write_manifest(str(folder), manifest)
    return Corpus(str(folder))
