"""From a corpus to the files that LXMERT's and Oscar's own code reads.

Both hold features in float32: the export of a corpus read again gives the same boxes, ids,
confidences and float16 features bit for bit, and int8 features as the float32 that they stand for.
"""

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from data_pipeline.corpus.reader import Corpus, Sample
from data_pipeline.exchange.lines import CHECKSUMS, LineWriter
from data_pipeline.exchange.lxmert_tsv import LxmertWriter
from data_pipeline.exchange.vocabulary import ATTRIBUTES_FILE, OBJECTS_FILE
from trawl import storage
from trawl.errors import RequestError
from trawl.progress import leg

FEATURES_FILE = "features.tsv"
LABELS_FILE = "predictions.tsv"


def export_corpus(kind: str, uri: str, out: str, ids: str) -> int:
    """Write the corpus at `uri` in the form `kind` to `out`; return the number of images.

    ids: "url" writes each sample's address as its id, which for an imported corpus is the id that
    it had; "key" its key. RequestError if two samples would share an id, or one holds a tab.
    """
    corpus = Corpus(uri)
    names = _ids(corpus, ids)
    export = {"lxmert-tsv": _export_lxmert, "oscar-tsv": _export_oscar}[kind]
    with leg("export", len(corpus)) as progress:
        export(corpus, names, out, progress.advance)
    return len(corpus)


def _ids(corpus: Corpus, ids: str) -> list[str]:
    """Return the id of each sample."""
    samples = (corpus[number] for number in range(len(corpus)))
    names = [sample.key if ids == "key" else sample.meta["url"] for sample in samples]
    if len(set(names)) < len(names) or not all(name and name.isprintable() for name in names):
        raise RequestError(
            f"{corpus.uri}: its addresses are empty, repeat, or hold tabs; add --ids key"
        )
    return names


def _export_lxmert(corpus: Corpus, names: list[str], out: str, advance: Callable[[], None]) -> None:
    """Write one TSV with its checksums, and the lists of names into its folder."""
    with storage.open_atomic(out) as file:
        writer = LxmertWriter(file)
        for number, name in enumerate(names):
            sample = corpus[number]
            writer.add(name, sample.meta["width"], sample.meta["height"], sample.regions)
            advance()
    storage.write_text(out + CHECKSUMS, writer.lines.checksums())
    _write_names(corpus, out.rpartition("/")[0] or ".")


def _export_oscar(corpus: Corpus, names: list[str], out: str, advance: Callable[[], None]) -> None:
    """Write features and labels, each with its line index and checksums, into a folder."""
    places = [storage.join(out, name) for name in (FEATURES_FILE, LABELS_FILE)]
    detector = corpus.manifest.detector
    with contextlib.ExitStack() as stack:
        writers = [LineWriter(stack.enter_context(storage.open_atomic(place))) for place in places]
        for number, name in enumerate(names):
            sample = corpus[number]
            blob = base64.b64encode(feature_rows(sample)).decode()
            writers[0].add(name, str(len(sample.regions)), blob)
            writers[1].add(name, label_json(sample, detector.objects, detector.attributes))
            advance()
    for place, writer in zip(places, writers, strict=True):
        storage.write_text(place.removesuffix(".tsv") + ".lineidx", writer.line_index())
        storage.write_text(place + CHECKSUMS, writer.checksums())
    numbers = {name: number for number, name in enumerate(names)}
    storage.write_text(storage.join(out, "imageid2idx.json"), json.dumps(numbers))
    _write_names(corpus, out)


def feature_rows(sample: Sample) -> bytes:
    """Return features and places of a sample's regions, float32 [regions, F + 6], as bytes."""
    regions, meta = sample.regions, sample.meta
    scale = np.array([meta["width"], meta["height"]] * 2, np.float32)
    corners = np.asarray(regions.boxes, np.float32) / scale
    sides = (regions.boxes[:, 2:] - regions.boxes[:, :2]) / scale[:2]
    table = np.concatenate([regions.float_features(), corners, sides], axis=1)
    return np.ascontiguousarray(table, "<f4").tobytes()


def label_json(sample: Sample, objects: list[str], attributes: list[str]) -> str:
    """Return the labels of a sample as Oscar's `predictions.tsv` has them, attributes with them."""
    regions, shown = sample.regions, []
    for number in range(len(regions)):
        attribute = int(regions.attribute_ids[number])
        label: dict[str, Any] = {
            "class": objects[int(regions.object_ids[number])],
            "rect": [float(value) for value in regions.boxes[number]],
            "conf": float(regions.object_conf[number]),
        }
        if attribute >= 0:
            label["attributes"] = [attributes[attribute]]
            label["attr_scores"] = [float(regions.attribute_conf[number])]
        shown.append(label)
    content = {
        "image_h": sample.meta["height"],
        "image_w": sample.meta["width"],
        "objects": shown,
    }
    return json.dumps(content)


def _write_names(corpus: Corpus, folder: str) -> None:
    """Write the names of objects and attributes, which the features name by number only."""
    detector = corpus.manifest.detector
    for name, names in (
        (OBJECTS_FILE, detector.objects),
        (ATTRIBUTES_FILE, detector.attributes),
    ):
        storage.write_text(storage.join(folder, name), "".join(f"{text}\n" for text in names))
