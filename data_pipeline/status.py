"""Says how far a build is, from its event log alone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from data_pipeline.corpus.manifest import NAME, manifest_sha256, read_manifest
from trawl import storage
from trawl.errors import RequestError
from trawl.events import read_events

EVENTS = "events.jsonl"
# What the steps count that is no drop.
_NO_DROPS = {"passed", "kept", "images", "bytes", "candidates", "urls", "pages", "regions"}


@dataclass
class Phase:
    """What the log tells of one phase."""

    units: int = 0
    done: int = 0
    here: int = 0  # done since the phase was last taken up
    began: float = 0.0
    last: float = 0.0
    peak_mib: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def status_lines(uri: str) -> Iterator[str]:
    """Yield the lines of `trawl corpus status`; RequestError if there is no build at `uri`."""
    place = storage.join(uri, EVENTS)
    if not storage.exists(place) and not storage.exists(storage.join(uri, NAME)):
        raise RequestError(f"{uri}: neither a corpus nor a build of one; mend the path")
    phases = read_phases(read_events(place))
    for name, phase in phases.items():
        yield _line(name, phase)
    drops = drops_by_reason(phases)
    if drops:
        yield "drops by reason (images and candidates, as the steps counted them):"
        yield from (f"  {count:9,} {reason}" for reason, count in drops.most_common())
    if storage.exists(storage.join(uri, NAME)):
        manifest = read_manifest(uri)
        yield f"complete: {manifest.samples:,} samples, manifest_sha256 {manifest_sha256(uri)}"


def drops_by_reason(phases: dict[str, Phase]) -> Counter[str]:
    """Return what the steps dropped, images and candidates as they counted, by `step: reason`."""
    drops = Counter[str]()
    for name in ("download", "image_filter", "sentences", "score", "choose", "aggregate"):
        if name in phases:
            counts = phases[name].counts
            drops.update({f"{name}: {k}": v for k, v in counts.items() if k not in _NO_DROPS})
    return drops


def read_phases(events: Iterator[dict[str, Any]]) -> dict[str, Phase]:
    """Return the phases of the log's builds, in order; a unit that was done twice counts once."""
    phases: dict[str, Phase] = {}
    seen: set[tuple[str, str]] = set()
    for event in events:
        name = event.get("phase", "")
        if event["kind"] == "phase":
            phase = phases.setdefault(name, Phase())
            phase.units, phase.done, phase.here = event["units"], event["done"], 0
            phase.began = phase.last = event["time"]
        elif event["kind"] == "unit" and name in phases:
            phase = phases[name]
            phase.last = event["time"]
            phase.done += 1
            phase.here += 1
            phase.peak_mib = max(phase.peak_mib, event["peak_mib"])
            if (name, event["unit"]) not in seen:
                phase.counts.update(event["counts"])
                seen.add((name, event["unit"]))
    return phases


def _line(name: str, phase: Phase) -> str:
    """Return one phase as a line: units, seconds, rate, time left, memory."""
    seconds = phase.last - phase.began
    line = f"{name:13} {phase.done:6} of {phase.units:6} units, {seconds:8.1f} s"
    if phase.here and phase.done < phase.units:
        left = seconds / phase.here * (phase.units - phase.done)
        line += f", about {left:.0f} s left"
    main = "images" if "images" in phase.counts else "candidates"
    if phase.counts.get(main) and seconds > 0:
        line += f", {phase.counts[main]:,} {main}, {phase.counts[main] / seconds:,.0f}/s"
    return line + (f", {phase.peak_mib} MiB" if phase.peak_mib else "")
