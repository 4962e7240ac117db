"""The measured rates that a plan rests on, and the probe of a recipe's own input for them."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from data_pipeline import build as building
from data_pipeline.collecting import archives
from data_pipeline.corpus.manifest import read_manifest
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.sources import table
from data_pipeline.sources.recipe import (
    CaptionsSource,
    CrawlSource,
    TableSource,
    WarcSource,
    WatSource,
)
from trawl import chance, recipe, storage
from trawl.errors import RequestError
from trawl.events import read_events
from trawl.recipe import Recipe

_PAGE_BYTES = 100_000.0  # of a page where the probe cannot tell, as the mean of real ones
SHIPPED = Path(__file__).parent / "rates.yaml"
# The phases of a step, and what the step's CPU is counted by.
STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "collect": ("pages", ("collect", "crawl", "frontier", "locate", "lend")),
    "gather": ("candidates", ("gather",)),
    "download": ("addresses", ("download",)),
    "image filter": ("images", ("image_filter",)),
    "sentences": ("candidates", ("sentences",)),
    "detect": ("detected", ("detect",)),
    "score": ("described", ("route", "select", "score")),
    "aggregate": (
        "described",
        ("count_texts", "common_texts", "choose", "near", "components")
        + ("name_best", "leaders", "follow", "aggregate"),
    ),
    "write": ("candidates", ("shards", "decisions", "gallery")),
}


class Rates(Recipe):
    """What one item costs and what becomes of it; counts are of the probe that measured it."""

    measured_on: str
    """The machine and the input, in words."""

    pages: float = Field(gt=0)
    """Pages; for a caption set, its images."""

    candidates: float = Field(gt=0)
    """Images with texts found on these pages."""

    addresses: float = Field(gt=0)
    """Distinct addresses to fetch."""

    images: float = Field(gt=0)
    """Images that arrived."""

    described: float = Field(gt=0)
    """Candidates whose image and text passed the filters."""

    detected: float = Field(gt=0)
    """Distinct images among them."""

    kept: float = Field(gt=0)
    """Samples in the corpus."""

    cpu_seconds: dict[str, float]
    """CPU seconds of each step over the probe."""

    page_bytes: float = Field(gt=0)
    """Bytes of the input a page, without its images."""

    image_bytes: float = Field(gt=0)
    """Bytes of an image."""

    sample_bytes: float = Field(gt=0)
    """Bytes of a sample in a shard."""

    table_bytes: float = Field(gt=0)
    """Bytes of decisions and tables, a candidate."""


def load_rates(place: str | None) -> Rates:
    """Return the rates in a file, or those that ship."""
    return recipe.load(place or SHIPPED, Rates)


def measure(asked: CorpusRecipe, share: float) -> Rates:
    """Build a corpus from a share of the recipe's own input, throw it away, return its rates.

    RequestError: the probe keeps nothing, so that nothing can be said of a sample.
    """
    with tempfile.TemporaryDirectory(prefix="trawl-plan-") as folder:
        probe, told, size = _probe(asked, share, folder)
        out = storage.join(folder, "corpus")
        building.build(probe, out)
        return _rates(out, told, size, probe.download.source == "warc")


def _probe(asked: CorpusRecipe, share: float, folder: str) -> tuple[CorpusRecipe, str, float]:
    """Return the recipe of a share of the input, what it is in words, and its bytes."""
    source = asked.collect.source
    changes: dict[str, Any]
    if isinstance(source, WarcSource | WatSource):
        files = [file.uri for file in archives(source)]
        draw = chance.generator("plan", *files)
        count = max(1, round(share * len(files)))
        chosen = sorted(files[n] for n in draw.permutation(len(files))[:count].tolist())
        changes, told = {"uris": chosen}, f"{count} of {len(files)} {source.kind.upper()} files"
        size = float(sum(storage.size(uri) for uri in chosen))
    elif isinstance(source, CrawlSource):
        count = max(1, round(share * source.max_pages))
        changes, told, size = {"max_pages": count}, f"a crawl of at most {count} pages", 0.0
    elif isinstance(source, TableSource):
        changes, told, size = _table_probe(source, share, folder)
    else:
        changes, told, size = _captions_probe(source, share, folder)
    collect = asked.collect.model_copy(update={"source": source.model_copy(update=changes)})
    compute = asked.compute.model_copy(update={"keep_work": True})
    return asked.model_copy(update={"collect": collect, "compute": compute}), told, size


def _table_probe(
    source: TableSource, share: float, folder: str
) -> tuple[dict[str, Any], str, float]:
    """Copy a share of the good rows of a table, spread over it, into a table of its own."""
    place = storage.join(folder, "probe.tsv")
    count = total = 0
    with storage.open_atomic(place) as file:
        for part in table.slices(source):
            for row in table.read_slice(part, source):
                total += 1
                if not row.fault and count < max(1, round(share * total)):
                    file.write(f"{row.url}\t{' '.join(row.caption.split())}\n".encode())
                    count += 1
    kind = table.text_source(source)
    changes = {"format": "cc12m", "uris": [place], "columns": None, "text_source": kind}
    return changes, f"{count} of {total} rows of a table", float(storage.size(place))


def _captions_probe(
    source: CaptionsSource, share: float, folder: str
) -> tuple[dict[str, Any], str, float]:
    if source.captions is None or source.format not in ("coco", "karpathy"):
        raise RequestError(
            f"no probe of a caption set of format {source.format}; give the rates of another"
        )
    content = storage.read_json(source.captions)
    images = content["images"]
    count = max(1, round(share * len(images)))
    place = storage.join(folder, "captions.json")
    storage.write_json(place, {**content, "images": images[:count]})
    told = f"{count} of {len(images)} images with captions"
    return {"captions": place}, told, share * storage.size(source.captions)


def _rates(out: str, told: str, size: float, images_inside: bool) -> Rates:
    """Return the rates of the build at `out` from an input of `size` bytes, 0 for a crawl."""
    cpu: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for event in read_events(storage.join(out, building.EVENTS)):
        if event["kind"] == "unit":
            cpu[event["phase"]] += event["cpu_seconds"]
            for name, count in event["counts"].items():
                counts[f"{event['phase']}/{name}"] += count
    manifest = read_manifest(out)
    if not manifest.samples:
        raise RequestError(f"the probe of {told} keeps no sample; give a larger --share")
    pages = counts["collect/pages"] or counts["crawl/addresses"] or counts["crawl/pages"]
    tables = sum(
        storage.size(place)
        for part in ("decisions", "work/gather", "work/sentences", "work/image_filter")
        for place in storage.list_files(storage.join(out, part))
    )
    images = max(1, counts["download/images"])
    pages = pages or counts["collect/candidates"]
    if images_inside:
        size -= counts["download/bytes"]
    candidates = counts["gather/candidates"]
    return Rates(
        measured_on=f"{told}, {_machine()}",
        pages=pages,
        candidates=candidates,
        addresses=max(1, counts["gather/urls"]),
        images=images,
        described=max(1, counts["route/pairs"]),
        detected=max(1, counts["select/images"]),
        kept=manifest.samples,
        cpu_seconds={
            step: round(sum(cpu[phase] for phase in phases), 3)
            for step, (_, phases) in STEPS.items()
        },
        page_bytes=round(size / pages, 1) if size > 0 else _PAGE_BYTES,
        image_bytes=round(max(1, counts["download/bytes"]) / images, 1),
        sample_bytes=round(manifest.bytes / manifest.samples, 1),
        table_bytes=round(tables / candidates, 1),
    )


def _machine() -> str:
    """Return what the processor calls itself."""
    place = Path("/proc/cpuinfo")
    lines = place.read_text().splitlines() if place.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "an unknown processor")


def dump_rates(rates: Rates) -> str:
    """Return rates as the text of a file that `--rates` reads."""
    return "# trawl corpus plan RECIPE --measure\n" + recipe.dump(rates)
