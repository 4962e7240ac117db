"""The figures of a demo: OUT/summary.json, the table at its end, and the report page."""

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trawl import storage
from trawl.errors import WorkError

if TYPE_CHECKING:
    from trawl.demo.road import Road

RECALLS = ("t2i_r1", "t2i_r5", "t2i_r10", "i2t_r1", "i2t_r5", "i2t_r10")


def write_results(road: "Road") -> dict[str, Any]:
    """Write OUT/report.html and OUT/summary.json from what the legs left; return the summary."""
    from trawl.demo.report import demo_page

    summary = summarise(road)
    storage.write_text(storage.join(road.out, "report.html"), demo_page(road, summary))
    storage.write_json(storage.join(road.out, "summary.json"), summary)
    return summary


def marks(road: "Road") -> dict[str, dict[str, Any]]:
    """Return what each leg left: its seconds and figures, by name, in the order of the road."""
    from trawl.demo.road import LEGS

    return {leg: storage.read_json(storage.join(road.out, "legs", f"{leg}.json")) for leg in LEGS}


def stage_evaluations(road: "Road") -> dict[str, dict[str, Any]]:
    """Return the evaluation of each published stage, by name, in the order of training."""
    stages: list[str] = list(dict.fromkeys(row["stage"] for row in training_rows(road)))
    return {
        stage: storage.read_json(storage.join(road.run, "stages", stage, "evaluation.json"))
        for stage in stages
    }


def training_rows(road: "Road") -> Iterator[dict[str, Any]]:
    """Yield the training's metrics, one row a step that was recorded."""
    for line in storage.read_text(storage.join(road.run, "metrics.jsonl")).splitlines():
        row = json.loads(line)
        if "loss" in row:
            yield row


def summarise(road: "Road") -> dict[str, Any]:
    """Return the summary; its keys are the same in every version."""
    legs = marks(road)
    rows = list(training_rows(road))
    if not rows:
        raise WorkError(f"{road.run}/metrics.jsonl: the training left no losses")
    figures = {key: value for leg in legs.values() for key, value in leg["figures"].items()}
    web = legs["web-corpus"]["figures"]
    return {
        "seconds": round(sum(leg["seconds"] for leg in legs.values()), 1),
        "seconds_by_leg": {name: leg["seconds"] for name, leg in legs.items()},
        "pairs": {key: web["pairs"][key] for key in ("precision", "recall")},
        "detector": {"map50": figures["detector"]["map50"]},
        "retrieval": {
            stage: {name: evaluation["retrieval"][name] for name in RECALLS}
            for stage, evaluation in stage_evaluations(road).items()
        },
        "manifest_sha256": web["manifest_sha256"],
        "final_loss": rows[-1]["loss"],
    }


def summary_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the summary as rows of a table: what, and its figure."""
    rows = [
        ("seconds", f"{summary['seconds']:.0f}"),
        ("pairs: precision, recall", "{precision:.3f}, {recall:.3f}".format(**summary["pairs"])),
        ("detector: mAP@0.5", f"{summary['detector']['map50']:.3f}"),
    ]
    for stage, recalls in summary["retrieval"].items():
        for direction, name in (("t2i", "text to image"), ("i2t", "image to text")):
            values = ", ".join(f"{recalls[f'{direction}_r{rank}']:.3f}" for rank in (1, 5, 10))
            rows.append((f"{stage}: {name} R@1, 5, 10", values))
    rows.append(("final loss", f"{summary['final_loss']:.4f}"))
    rows.append(("corpus manifest", summary["manifest_sha256"][:16]))
    return rows


def print_summary(summary: dict[str, Any], road: "Road") -> None:
    """Print the summary as a table, and where the rest lies."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "figure", title="Trawl demo")
    for row in summary_rows(summary):
        table.add_row(*row)
    Console().print(table)
    print(f"report: {storage.join(road.out, 'report.html')}", file=sys.stderr)
    *_, last = summary["retrieval"]
    print(f"model:  {storage.join(road.run, 'stages', last)}", file=sys.stderr)
