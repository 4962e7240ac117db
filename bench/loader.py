"""Reads samples of 50 regions x 2,054 float16 and a text, against the `webdataset` library.

    python bench/loader.py [--samples 4000] [--folder /dev/shm]

Everything lies in the page cache; figures are CPU seconds of one thread, the least of some rounds,
ours and the library's in turn in the same run. Ours copies into one preallocated batch and parses
each sample's JSON. The last lines say how many cores feed one GPU at 10,000 samples/s.
"""

import argparse
import hashlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import webdataset

from data_pipeline.corpus.gather import RegionBlock
from data_pipeline.corpus.manifest import DetectorRecord, Manifest, write_manifest
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.regions import Regions, encode
from data_pipeline.corpus.schema import Caption, SampleMeta, key_of
from data_pipeline.corpus.writer import PackedSample, write_shard
from pretrain.batches.order import SampleOrder
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.families import Batches, family

REGIONS, FEATURES, CLASSES = 50, 2054, 1600
SHARD, BATCH, ROUNDS = 500, 256, 3
WANTED = 10_000
WORDS = ["man", "woman", "dog", "cat", "red", "blue", "street", "water", "tree", "near", "sky"]


def sample(number: int, form: str) -> PackedSample:
    """Return sample `number`: 50 regions and a caption of 8 to 16 words."""
    draw = np.random.default_rng(number)
    corners = np.sort(draw.random((REGIONS, 2, 2), dtype=np.float32) * 500, axis=1)
    regions = Regions(
        boxes=corners.reshape(REGIONS, 4),
        features=np.maximum(draw.standard_normal((REGIONS, FEATURES), dtype=np.float32), 0),
        object_ids=draw.integers(CLASSES, size=REGIONS),
        attribute_ids=draw.integers(400, size=REGIONS),
        object_conf=draw.random(REGIONS),
        attribute_conf=draw.random(REGIONS),
    ).stored_as(form)
    image = number.to_bytes(8, "little")
    meta = SampleMeta(
        captions=[
            Caption(
                text=" ".join(draw.choice(WORDS, size=draw.integers(8, 17))),
                source="alt",
                score=0.5,
            )
        ],
        tags=[f"object{identity}" for identity in dict.fromkeys(regions.object_ids[:10].tolist())],
        url=f"http://images.test/{number}.jpg",
        page="http://images.test/",
        width=500,
        height=500,
        sha256=hashlib.sha256(image).hexdigest(),
        phash="",
    )
    return PackedSample(key_of(image), {"json": meta.to_bytes(), "regions": encode(regions)})


def write(folder: Path, samples: int, form: str) -> str:
    """Write a corpus of `samples` and return its URI."""
    shards = []
    for number, first in enumerate(range(0, samples, SHARD)):
        made = (sample(each, form) for each in range(first, min(samples, first + SHARD)))
        shards.append(write_shard(str(folder), number, sorted(made, key=lambda each: each.key)))
    manifest = Manifest(
        name="bench",
        samples=samples,
        captions=samples,
        regions=samples * REGIONS,
        bytes=sum(shard.bytes for shard in shards),
        recipe_sha256="0" * 64,
        detector=DetectorRecord(
            name="bench",
            weights_sha256="0" * 64,
            selection="all",
            features=form,
            feature_size=FEATURES,
            objects=[f"object{number}" for number in range(CLASSES)],
            attributes=[f"attribute{number}" for number in range(400)],
        ),
        funnel={},
        shards=shards,
        decisions=[],
    )
    write_manifest(str(folder), manifest)
    return str(folder)


def write_plain(uri: str, folder: Path) -> list[str]:
    """Write the same samples as a webdataset user would: features as npy beside the JSON."""
    corpus, paths = Corpus(uri), []
    folder.mkdir()
    for number, first in enumerate(range(0, len(corpus), SHARD)):
        paths.append(str(folder / f"{number:05d}.tar"))
        with webdataset.TarWriter(paths[-1], encoder=False, mtime=0) as sink:
            for each in range(first, min(len(corpus), first + SHARD)):
                found = corpus[each]
                array = io.BytesIO()
                np.save(array, found.regions.features)
                sink.write(
                    {
                        "__key__": found.key,
                        "npy": array.getvalue(),
                        "json": json.dumps(found.meta).encode(),
                    }
                )
    return paths


def by_library(paths: list[str], decode: bool) -> Iterator[tuple[np.ndarray, dict]]:
    """Yield features and JSON of each sample through webdataset, decoded by it or by hand."""
    pipeline = webdataset.WebDataset(paths, shardshuffle=False, empty_check=False)
    for each in pipeline.decode() if decode else pipeline:
        if decode:
            yield each["npy"], each["json"]
        else:
            # An npy header of this size is 128 bytes.
            array = np.frombuffer(each["npy"], dtype="<f2", offset=128)
            yield array.reshape(REGIONS, FEATURES), json.loads(each["json"])


def into_batches(samples: Iterator[tuple[np.ndarray, dict]], batch: np.ndarray) -> int:
    """Copy the features of `samples` into the rows of `batch`, over and over; return how many."""
    number, captions = 0, 0
    for number, (features, meta) in enumerate(samples, 1):
        batch[number % len(batch)] = features
        captions += len(meta["captions"])
    return number


def ours(corpus: Corpus, order: SampleOrder, block: RegionBlock, parse: bool) -> int:
    """Read every sample once in the shuffled order of a stage, a batch at a time."""
    for first in range(0, len(corpus), BATCH):
        places = order.indices(first, min(BATCH, len(corpus) - first))
        numbers = [place.sample for place in places]
        samples = corpus.read_into(numbers, block)
        if parse:
            for each in samples:
                len(each.meta["captions"])
    return len(corpus)


def cpu_rate(work: Callable[[], int]) -> float:
    """Return samples a CPU second, the best of some rounds after one that warms up."""
    work()
    best = 0.0
    for _ in range(ROUNDS):
        began = time.process_time()
        done = work()
        best = max(best, done / (time.process_time() - began))
    return best


def make_batches(maker: Batches, order: SampleOrder, count: int) -> int:
    """Make `count` batches of 64 as a trainer asks for them; return how many samples they hold."""
    for first in range(0, 64 * count, 64):
        maker.make_stored(order.indices(first, 64))
    return 64 * count


def makers(uri: str) -> Iterator[tuple[str, float]]:
    """Yield each region family with the samples a CPU second that its batch maker makes."""
    corpus = Corpus(uri)
    tokenizer = train_tokenizer((each.meta["captions"][0]["text"] for each in corpus), 4000)
    order = SampleOrder([len(corpus)], [1.0], 0, "bench")
    settings = {
        "oscar": ({"img_feature_dim": FEATURES + 6}, {"mlm": 1.0, "contrast": 1.0}),
        "imagebert": (
            {"img_feature_dim": FEATURES, "object_classes": CLASSES},
            {"mlm": 1.0, "itm": 1.0},
        ),
        "vilbert": ({"v_feature_size": FEATURES}, {"mlm": 1.0, "itm": 1.0}),
        "lxmert": (
            {"visual_feat_dim": FEATURES, "region_count": "sound"},
            {"mlm": 1.0, "itm": 1.0},
        ),
    }
    for name, (changes, objectives) in settings.items():
        kind = family(name)
        config = kind.configuration.of_size("tiny", vocab_size=len(tokenizer), **changes)
        maker = kind.batches([corpus], tokenizer, config, objectives, 0, "bench")

        yield name, cpu_rate(partial(make_batches, maker, order, min(1024, len(corpus)) // 64))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--samples", type=int, default=3000)
    options.add_argument("--folder", help="where the corpora lie meanwhile; memory is best")
    asked = options.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        report(folder, asked.samples)
    finally:
        shutil.rmtree(folder)


def report(folder: Path, samples: int) -> None:
    uri = write(folder / "float16", samples, "float16")
    small = write(folder / "int8", samples, "int8")
    plain = write_plain(uri, folder / "plain")
    corpus, compact = Corpus(uri), Corpus(small)
    order = SampleOrder([samples], [1.0], 0, "bench")
    block = RegionBlock.empty((BATCH, REGIONS), FEATURES, "float16")
    int8_block = RegionBlock.empty((BATCH, REGIONS), FEATURES, "int8")
    rates = {
        "webdataset, .decode()": cpu_rate(
            lambda: into_batches(by_library(plain, True), block.features)
        ),
        "webdataset, raw bytes": cpu_rate(
            lambda: into_batches(by_library(plain, False), block.features)
        ),
        "ours, shuffled, JSON parsed": cpu_rate(lambda: ours(corpus, order, block, True)),
        "ours, shuffled, JSON left": cpu_rate(lambda: ours(corpus, order, block, False)),
        "ours, int8, JSON parsed": cpu_rate(lambda: ours(compact, order, int8_block, True)),
    }
    against = rates["webdataset, .decode()"], rates["webdataset, raw bytes"]
    print(
        f"{'samples a CPU second, one core':<32} {'rate':>8} to decode  to raw  cores, {WANTED}/s"
    )
    for name, rate in rates.items():
        ratios = "".join(f"{rate / other:>9.2f}" for other in against)
        print(f"{name:<32} {rate:>8.0f} {ratios} {WANTED / rate:>10.2f}")
    print(
        f"bytes a sample on disk: float16 {corpus.manifest.bytes / samples:,.0f}, int8 "
        f"{compact.manifest.bytes / samples:,.0f}; {WANTED} samples/s are "
        f"{WANTED * corpus.manifest.bytes / samples / 1e9:.2f} and "
        f"{WANTED * compact.manifest.bytes / samples / 1e9:.2f} GB/s"
    )
    for form, place in (("float16", uri), ("int8", small)):
        for name, rate in makers(place):
            print(
                f"whole batches of {name}, {form}: {rate:,.0f} samples a CPU second, "
                f"{WANTED / rate:.1f} cores feed one GPU at {WANTED}/s"
            )


if __name__ == "__main__":
    main()
