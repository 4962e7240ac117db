"""The sections of a corpus' report: the funnel, histograms, and pairs kept and dropped."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpus.decisions import KEPT, STEPS, read_decisions
from data_pipeline.corpus.reader import Corpus
from data_pipeline.detector.storage_report import PLACE as STORAGE_PLACE
from data_pipeline.detector.storage_report import StorageReport
from data_pipeline.images import ImageError, decode, thumbnail
from data_pipeline.steps.gallery import PLACE
from trawl import chance, storage
from trawl.report import Box, Section, figure, funnel, gallery, histogram, table

_SHOWN = 24
_SIDE = 240
_BOXES = 8
_LEAST_CONFIDENCE = 0.3
_MAX_PIXELS = 50_000_000
_HISTOGRAM_ROWS = 100_000
_TITLES = {
    "collect": "collected",
    "download": "downloaded",
    "image_filter": "fit images",
    "sentences": "with sentences",
    "detect": "with regions",
    "score": "agreeing",
    "aggregate": "distinct",
}


def corpus_sections(uri: str) -> list[Section]:
    """Return the sections about the corpus at `uri`; RequestError if it is not complete."""
    corpus = Corpus(uri)
    return [
        _funnel(corpus),
        _reasons(corpus),
        _histograms(corpus),
        *_storage(uri),
        _kept(corpus),
        _dropped(uri),
    ]


def _funnel(corpus: Corpus) -> Section:
    """Draw how many candidates are left after each step."""
    manifest = corpus.manifest
    drops: Counter[str] = Counter()
    whys: dict[str, Counter[str]] = {}
    for name, count in manifest.funnel.items():
        step, _, reason = name.partition("/")
        if reason != KEPT:
            drops[step] += count
            whys.setdefault(step, Counter())[reason] += count
    left = sum(manifest.funnel.values())
    steps = [("candidates", left, "")]
    for step in STEPS:
        if step not in _TITLES or step == "detect":
            continue
        left -= drops[step]
        top = whys.get(step, Counter()).most_common(4)
        steps.append((_TITLES[step], left, ", ".join(f"{why} {count:,}" for why, count in top)))
    lead = (
        f"{manifest.samples:,} samples with {manifest.regions:,} regions in "
        f"{len(manifest.shards)} shards, {manifest.bytes / 1e6:,.1f} MB."
    )
    return Section(f"Funnel of {manifest.name}", funnel(steps), lead)


def _reasons(corpus: Corpus) -> Section:
    """List every reason with its count."""
    rows = [
        (*name.partition("/")[::2], count)
        for name, count in sorted(corpus.manifest.funnel.items(), key=lambda item: -item[1])
    ]
    return Section(
        f"Decisions of {corpus.manifest.name}", table(("step", "reason", "candidates"), rows)
    )


def _histograms(corpus: Corpus) -> Section:
    """Draw score, size, caption length and regions over the corpus, or its first part."""
    numbers: dict[str, list[float]] = {name: [] for name in ("score", "words", "side", "regions")}
    for _, row in zip(range(_HISTOGRAM_ROWS), _scored(corpus.uri), strict=False):
        numbers["score"].append(row["score"])
    for number in range(min(len(corpus), _HISTOGRAM_ROWS)):
        sample = corpus[number]
        captions = sample.meta["captions"]
        if captions:
            numbers["words"].append(float(len(captions[0]["text"].split())))
        numbers["side"].append(float(max(sample.meta["width"], sample.meta["height"])))
        numbers["regions"].append(float(len(sample.regions)))
    charts = (
        histogram(numbers["score"], "score of scored candidates"),
        histogram(numbers["words"], "words in the caption"),
        histogram(numbers["side"], "longer side in pixels"),
        histogram(numbers["regions"], "regions in an image"),
    )
    return Section(f"Distributions of {corpus.manifest.name}", "".join(charts))


def _scored(uri: str) -> Iterator[dict[str, Any]]:
    """Yield the decisions about candidates that came as far as a score."""
    for row in read_decisions(uri, ["step", "score"]):
        if STEPS.index(row["step"]) >= STEPS.index("score"):
            yield row


def _storage(uri: str) -> list[Section]:
    """Tell what storing the features costs and keeps, where an extraction measured it."""
    place = storage.join(uri, *STORAGE_PLACE)
    if not storage.exists(place):
        return []
    report = StorageReport()
    report.merge(storage.read_json(place))
    heads = ("form", "mean cosine to float32", "least cosine", "bytes a region")
    lead = f"Measured on {report.regions:,} regions of {report.images:,} images."
    return [Section("Storage of features", table(heads, report.rows()), lead)]


def _kept(corpus: Corpus) -> Section:
    """Show samples with their boxes, tags and captions."""
    draw = chance.generator("report", corpus.manifest.name, len(corpus))
    count = min(_SHOWN, len(corpus))
    chosen = sorted(draw.choice(len(corpus), size=count, replace=False).tolist()) if count else []
    figures = [made for number in chosen if (made := _sample_figure(corpus, number))]
    html = gallery(figures) if figures else "<p>No images: the corpus was built without.</p>"
    lead = f"{len(figures)} of {len(corpus):,}, with the surest boxes and all tags."
    return Section(f"Kept in {corpus.manifest.name}", html, lead)


def _sample_figure(corpus: Corpus, number: int) -> str:
    """Return the figure of one sample, "" if it has no image."""
    sample, data = corpus[number], corpus.image(number)
    if data is None:
        return ""
    try:
        picture = thumbnail(decode(data, _MAX_PIXELS), _SIDE)
    except ImageError:
        return ""
    regions, meta = sample.regions, sample.meta
    sure = sorted(range(len(regions)), key=lambda n: -float(regions.object_conf[n]))[:_BOXES]
    boxes = []
    for n in sure:
        if regions.object_conf[n] < _LEAST_CONFIDENCE:
            continue
        left, top, right, bottom = (float(value) for value in regions.boxes[n])
        label = _label(corpus, int(regions.object_ids[n]), int(regions.attribute_ids[n]))
        width, height = meta["width"], meta["height"]
        boxes.append(Box(left / width, top / height, right / width, bottom / height, label))
    tags = ", ".join(meta["tags"][:8])
    if not meta["captions"]:  # imported, or detected in a folder of images
        return figure(picture, meta["url"], tags, boxes, "good")
    caption = meta["captions"][0]
    note = f"{caption['source']} {caption['score']:.2f} · {tags}"
    return figure(picture, caption["text"], note, boxes, "good")


def _label(corpus: Corpus, object_id: int, attribute_id: int) -> str:
    detector = corpus.manifest.detector
    attribute = f"{detector.attributes[attribute_id]} " if attribute_id >= 0 else ""
    return attribute + detector.objects[object_id]


def _dropped(uri: str) -> Section:
    """Show a few dropped candidates of each reason."""
    place = storage.join(uri, *PLACE)
    lines = storage.read_text(place).splitlines() if storage.exists(place) else []
    figures = []
    for row in map(json.loads, lines):
        reason = f"{row['step']}: {row['reason']}"
        note = f"{reason} · {row['width']} x {row['height']} · {_why(row)}"
        picture = base64.b64decode(row["thumbnail"])
        figures.append(figure(picture, row["text"] or row["url"], note, (), "bad"))
    html = gallery(figures) if figures else "<p>Nothing was dropped that had an image.</p>"
    return Section(f"Dropped from {uri.rstrip('/').rpartition('/')[2]}", html, "By reason.")


def _why(row: dict[str, Any]) -> str:
    """Return the number or text that a decision rested on."""
    scores = json.loads(row["scores"])
    if row["step"] == "image_filter" and "natural" in scores:
        return f"natural {scores['natural']}, entropy {scores['entropy']}"
    if row["step"] == "sentences" and scores.get("rejected"):
        return "; ".join(f"{source}: {text}" for source, _, text in scores["rejected"][:2])
    return f"score {row['score']:.2f}" if row["score"] else ""
