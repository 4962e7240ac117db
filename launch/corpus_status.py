"""How far a corpus build is, from its event log and its manifest."""

from dataclasses import dataclass, field
from typing import Any

from data_pipeline.corpus.manifest import NAME, read_manifest
from data_pipeline.status import EVENTS, drops_by_reason, read_phases
from trawl import storage
from trawl.events import read_events

# What is left after each phase: what a reader calls it, the phase, and the count that tells.
_FUNNEL = (
    ("candidates", "gather", "candidates"),
    ("image addresses", "gather", "urls"),
    ("images", "download", "images"),
    ("fit images", "image_filter", "passed"),
    ("pairs", "route", "pairs"),
    ("agreeing", "score", "passed"),
    ("distinct", "aggregate", "kept"),
    ("samples", "shards", "samples"),
)
_RECENT = 500


@dataclass(frozen=True)
class Corpus:
    """How far a build is. Units are those of the phases that have begun."""

    uri: str
    phase: str | None = None
    """The phase that runs or ran last."""
    phases: int = 0
    """Phases that have begun."""
    phase_units_done: int = 0
    phase_units: int = 0
    units_done: int = 0
    units_per_second: float | None = None
    """Of this phase, since it was last taken up."""
    seconds_left: float | None = None
    """Of this phase: how large the later ones are follows from its result."""
    candidates: int = 0
    kept: int = 0
    """What the furthest step has kept; once complete, the samples."""
    kept_as: str = "candidates"
    complete: bool = False
    last_unit_at: float | None = None
    funnel: list[tuple[str, int]] = field(default_factory=list)
    drops: list[tuple[str, int]] = field(default_factory=list)
    """By `step: reason`, the most first."""
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """The build's last events but those of units, oldest first."""


def corpus_status(uri: str) -> Corpus:
    """Return how far the build at `uri` is."""
    events = list(read_events(storage.join(uri, EVENTS)))
    phases = read_phases(iter(events))
    complete = storage.exists(storage.join(uri, NAME))
    funnel = [
        (name, phases[phase].counts[count])
        for name, phase, count in _FUNNEL
        if phase in phases and phases[phase].done
    ]
    kept_as, kept = funnel[-1] if funnel else ("candidates", 0)
    if complete:
        kept_as, kept = "samples", read_manifest(uri).samples
    told = [event for event in events if event["kind"] not in ("unit", "phase", "phase-done")]
    if not phases:
        return Corpus(uri, complete=complete, kept=kept, kept_as=kept_as, events=told[-_RECENT:])
    name, phase = max(phases.items(), key=lambda item: item[1].began)
    seconds = phase.last - phase.began
    rate = phase.here / seconds if phase.here and seconds > 0 else None
    left = (phase.units - phase.done) / rate if rate else None
    return Corpus(
        uri=uri,
        phase=name,
        phases=len(phases),
        phase_units_done=phase.done,
        phase_units=phase.units,
        units_done=sum(each.done for each in phases.values()),
        units_per_second=rate,
        seconds_left=0.0 if complete else left,
        candidates=dict(funnel).get("candidates", 0),
        kept=kept,
        kept_as=kept_as,
        complete=complete,
        last_unit_at=max(each.last for each in phases.values()),
        funnel=funnel,
        drops=drops_by_reason(phases).most_common(),
        events=told[-_RECENT:],
    )
