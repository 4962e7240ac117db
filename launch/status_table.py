"""A job's status on a terminal."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launch.corpus_status import Corpus
from launch.node_status import Node
from launch.status import JobStatus
from launch.training_status import Training
from launch.words import ago, duration, number

_COLOURS = {"good": "green", "warning": "yellow", "bad": "red"}
_SIGNS = {"good": "good", "warning": "look", "bad": "bad"}
# More machines than this are told by those that differ from the others.
_NODES = 24
_WIDTH_WITHOUT_TERMINAL = 120


def show(statuses: Iterable[JobStatus]) -> None:
    """Print the statuses of jobs, one panel each."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    for status in statuses:
        console.print(panel(status))


def show_list(statuses: Iterable[JobStatus]) -> None:
    """Print the statuses of many jobs, one line each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "state", "place", "attempt", "at", "time left", "health"):
        table.add_column(name)
    for status in statuses:
        place, left = _brief(status)
        table.add_row(
            status.name,
            status.now,
            status.backend,
            str(status.attempts[-1].number if status.attempts else "-"),
            place,
            left,
            _health(status),
        )
    Console(soft_wrap=True).print(table)


def as_json(statuses: Iterable[JobStatus]) -> str:
    """Return the statuses as JSON, for programs."""
    return json.dumps([content(status) for status in statuses], indent=2)


def content(status: JobStatus) -> dict[str, Any]:
    """Return a status as JSON values, without the events that it was made of."""
    values = asdict(status) | {"health": status.health}
    for part in ("training", "corpus"):
        if values[part] is not None:
            del values[part]["events"]
    return values


def panel(status: JobStatus) -> Panel:
    """Return a job's status in a frame of its health's colour."""
    parts: list[RenderableType] = []
    if status.training is not None:
        parts.append(_facts(_training(status.training, status.read_at)))
    if status.corpus is not None:
        parts.append(_facts(_corpus(status.corpus, status.read_at)))
    if len(status.attempts) > 1:
        parts.append(_attempts(status))
    if status.nodes:
        parts.append(_nodes(status))
    parts += [
        Text(f"{_SIGNS[trouble.level]}: {trouble.text}", _COLOURS[trouble.level])
        for trouble in status.troubles
    ]
    number = f", attempt {status.attempts[-1].number}" if status.attempts else ""
    title = f"{status.name}: {status.now} ({status.kind} on {status.backend}{number})"
    return Panel(
        Group(*parts) if parts else Text("nothing has begun"),
        title=Text(title, "bold"),
        subtitle=Text.assemble("health ", _health(status)),
        title_align="left",
        subtitle_align="right",
        border_style=_COLOURS[status.health],
    )


def _health(status: JobStatus) -> Text:
    return Text(_SIGNS[status.health], f"bold {_COLOURS[status.health]}")


def _brief(status: JobStatus) -> tuple[str, str]:
    """Return in a few words how far the work is, and how long it still takes."""
    if (training := status.training) is not None and training.stage is not None:
        left = duration(training.seconds_left) if status.runs else "-"
        return f"{training.stage} {training.step:,}/{training.steps:,}", left
    if (corpus := status.corpus) is not None and corpus.phase is not None:
        left = duration(corpus.seconds_left) if status.runs else "-"
        return f"{corpus.phase} {corpus.phase_units_done:,}/{corpus.phase_units:,}", left
    return "-", "-"


def _facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def _of(done: int, total: int) -> RenderableType:
    """Return a count with a bar beside it."""
    grid = Table.grid(padding=(0, 2))
    share = f" ({done / total:.1%})" if total else ""
    bar = ProgressBar(total=max(1, total), completed=done, width=28)
    grid.add_row(Text(f"{done:,} of {total:,}{share}"), bar)
    return grid


def _training(training: Training, now: float) -> Iterator[tuple[str, RenderableType]]:
    if training.stage is None:
        yield "stage", "none has made a step yet"
        return
    yield "stage", f"{training.stage} ({training.number} of {training.stages})"
    yield "step", _of(training.step, training.steps)
    per_second = 1 / training.seconds_per_step if training.seconds_per_step else None
    rates = f"{number(per_second, 3)} steps/s, {number(training.samples_per_second)} samples/s"
    rates += f", {number(training.tokens_per_second)} tokens/s"
    if training.mfu is not None:
        rates += f", MFU {training.mfu:.1%}"
    yield "rate", rates
    left = f"{duration(training.stage_seconds_left)} of this stage"
    if training.number < training.stages:
        left += f", about {duration(training.seconds_left)} of all"
    yield "time left", left
    loss = f"{number(training.loss)}, gradient norm {number(training.grad_norm)}"
    yield "loss", f"{loss}, learning rate {number(training.lr, 3)}"
    if training.last_step_at is not None:
        yield "last step", ago(training.last_step_at, now)
    saved = training.checkpoint
    when = f"step {saved.step:,} of {saved.stage}, {ago(saved.time, now)}" if saved else "none"
    yield "last checkpoint", when
    yield "published", ", ".join(training.published) or "none"


def _corpus(corpus: Corpus, now: float) -> Iterator[tuple[str, RenderableType]]:
    if corpus.phase is None:
        yield "phase", "complete" if corpus.complete else "none has begun"
    else:
        yield "phase", f"{corpus.phase} ({corpus.phases} have begun)"
        yield "its units", _of(corpus.phase_units_done, corpus.phase_units)
        rate = f"{number(corpus.units_per_second, 3)} units/s"
        yield "rate", f"{rate}, {corpus.units_done:,} units done in all phases"
        left = "complete" if corpus.complete else f"{duration(corpus.seconds_left)} of this phase"
        yield "time left", left
        yield "last unit", ago(corpus.last_unit_at, now)
    yield "kept", f"{corpus.kept:,} {corpus.kept_as} of {corpus.candidates:,} candidates"
    if corpus.drops:
        top = ", ".join(f"{reason} {count:,}" for reason, count in corpus.drops[:4] if count)
        yield "dropped", top or "nothing"


def _attempts(status: JobStatus) -> Table:
    table = Table(title="attempts", title_justify="left", box=None, header_style="dim")
    for name in ("attempt", "took", "ended", "safe by then"):
        table.add_column(name)
    for each in status.attempts[-8:]:
        took = duration((each.ended or status.read_at) - each.began)
        ended = "runs" if each.cause is None else f"{each.cause} ({each.code})"
        table.add_row(str(each.number), took, ended, number(each.progress))
    return table


def _nodes(status: JobStatus) -> Table:
    table = Table(title="machines", title_justify="left", box=None, header_style="dim")
    for name in ("node", "host", "attempt", "last sign of life", "ended", "last words"):
        table.add_column(name, overflow="fold" if name == "last words" else "ellipsis")
    # Those that ended badly, then the longest silent.
    order = sorted(
        status.nodes, key=lambda each: (each.cause in (None, "done"), each.sign_at or 0.0)
    )
    for each in sorted(order[:_NODES], key=lambda each: each.node):
        table.add_row(*_node(each, status))
    if len(status.nodes) > _NODES:
        table.add_row("...", f"{len(status.nodes) - _NODES} more, see --json")
    return table


def _node(node: Node, status: JobStatus) -> tuple[str, str, str, str, str, str]:
    ended = f"{node.cause} ({node.code})" if node.cause else "runs" if status.runs else "no word"
    sign = ago(node.sign_at, status.read_at)
    return str(node.node), node.host or "?", str(node.attempt), sign, ended, node.message[:200]
