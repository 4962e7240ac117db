"""The report of a demo: one page from the crawl to the retrieval examples."""

import hashlib
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from trawl import storage
from trawl.demo.summary import RECALLS, stage_evaluations, summary_rows
from trawl.report import Section, figure, gallery, page, sections_from_json, table

if TYPE_CHECKING:
    from trawl.demo.road import Road

_THUMBNAIL = 230
_EXAMPLES = 6


def demo_page(road: "Road", summary: dict[str, Any]) -> str:
    """Return the whole page as HTML."""
    sections = [
        Section("Summary", table(("what", "figure"), summary_rows(summary))),
        Section(
            "Seconds by leg",
            table(("leg", "seconds"), summary["seconds_by_leg"].items()),
            "Wall-clock time of each leg, without what a kill threw away.",
        ),
        *_sections_of(road, "web-report", "corpus", "report", road.corpus("web")),
        _truth_section(road),
        _detector_section(road),
        *_sections_of(road, "pretrain-report", "pretrain", "report", road.run),
        *_retrieval_sections(road),
    ]
    return page(
        "Trawl demo",
        sections,
        "A web drawn from a seed is crawled, filtered and packed; a model is pretrained on it in "
        "two stages and asked to find held-out pictures by their captions.",
    )


def _sections_of(road: "Road", name: str, *arguments: str) -> list[Section]:
    """Return the sections that a command of another package writes about its own results."""
    from trawl.demo.road import command

    path = road.work / "logs" / f"{name}.json"
    command(road, name, *arguments, "--sections", str(path))
    return sections_from_json(storage.read_json(path))


def _truth_section(road: "Road") -> Section:
    """Return what the pipeline did with each kind of candidate, against the world's truth."""
    pairs = storage.read_json(storage.join(road.out, "legs", "web-corpus.json"))["figures"]["pairs"]
    header = ("true reason", "candidates", "decided alike", "decided otherwise")
    rows = []
    for reason, decided in sorted(pairs["by_reason"].items()):
        right = decided.get(reason, 0)
        others = {name: count for name, count in sorted(decided.items()) if name != reason}
        told = ", ".join(f"{name} {count}" for name, count in others.items())
        rows.append((reason, sum(decided.values()), right, told))
    lead = (
        f"Precision {pairs['precision']:.3f}, recall {pairs['recall']:.3f} of the kept pairs. "
        "The world knows of each candidate whether a perfect pipeline keeps it."
    )
    return Section("Decisions against the truth", table(header, rows), lead)


def _detector_section(road: "Road") -> Section:
    """Return the detector's average precision, kind by kind."""
    result = storage.read_json(storage.join(road.out, "legs", "detector.json"))["figures"]
    kinds = sorted(result["detector"]["ap50"].items(), key=lambda item: item[1])
    rows = [
        (*kinds[number], *kinds[-1 - number]) for number in range(min(10, (len(kinds) + 1) // 2))
    ]
    return Section(
        "Detector",
        table(("hardest kind", "AP@0.5", "easiest kind", "AP@0.5"), rows),
        f"mAP@0.5 {result['detector']['map50']:.3f} on held-out scenes.",
    )


def _retrieval_sections(road: "Road") -> list[Section]:
    evaluations = stage_evaluations(road)
    rows = [
        (stage, *(evaluation["retrieval"][name] for name in RECALLS))
        for stage, evaluation in evaluations.items()
    ]
    header = ("stage", *(f"{name[:3]} R@{name.rsplit('r', 1)[1]}" for name in RECALLS))
    count = road.recipe.held_out_scenes
    sections = [
        Section(
            "Retrieval",
            table(header, rows),
            f"Zero-shot, among {count} held-out scenes: t2i finds the picture of a caption, i2t "
            f"the caption of a picture. Chance is {1 / count:.3f} at rank 1.",
        )
    ]
    if evaluations:
        last = list(evaluations.values())[-1]["retrieval"]
        sections.append(_examples_section(road, last.get("examples", [])))
    return sections


def _examples_section(road: "Road", examples: list[dict[str, Any]]) -> Section:
    """Return queries with the pictures that the last stage ranked first."""
    pictures = _pictures_by_key(road.world("held-out") / "images")
    parts = []
    for example in [e for e in examples if e["direction"] == "t2i"][:_EXAMPLES]:
        figures = [
            figure(
                _thumbnail(pictures[found["key"]]),
                f"{rank}. {found['score']:.3f}",
                frame="good" if found["right"] else "",
            )
            for rank, found in enumerate(example["ranking"][:5], start=1)
            if found["key"] in pictures
        ]
        parts.append(f"<h3>“{escape(example['query'])}”</h3>{gallery(figures)}")
    lead = "Captions and the five pictures ranked first by the last stage; the right one is framed."
    return Section("Retrieval examples", "".join(parts), lead)


def _pictures_by_key(folder: Path) -> dict[str, Path]:
    """Return the images of `folder` by their key in a corpus, the hash of their content."""
    paths = sorted(folder.iterdir())
    return {hashlib.sha256(path.read_bytes()).hexdigest()[:24]: path for path in paths}


def _thumbnail(path: Path) -> bytes:
    """Return a small JPEG of the image at `path`."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
