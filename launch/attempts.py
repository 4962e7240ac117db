"""The attempts of a job: what is written of each, and whether there may be another.

A job's folder holds `job.yaml`, `events.jsonl` and for each attempt a folder `attempt-N`, with a
log and an ending for each machine. On a cluster the machines share it. Attempts are numbered on
through all submissions; the retries that one submission used up do not bind the next.
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.job import Job, Retry
from pretrain.exit_codes import ExitCode, worst
from trawl import storage
from trawl.errors import RequestError
from trawl.events import EventLog, read_events

EVENTS = "events.jsonl"
IDENTITY = "job.id"
_BEGUN = "begun"


@dataclass(frozen=True)
class NodeEnding:
    """How one machine's part of an attempt ended."""

    node: int
    host: str
    code: int
    """Negative: the signal that killed it."""
    message: str
    """Its last words."""


@dataclass(frozen=True)
class Attempt:
    """An attempt as the events tell it; `cause` and `progress` once it has ended."""

    number: int
    cause: str | None = None
    progress: int = 0


def folder_of(job_folder: Path, number: int) -> Path:
    """Return the folder of attempt `number`."""
    return job_folder / f"attempt-{number}"


def log_of(job_folder: Path, number: int, node: int) -> Path:
    """Return the log of machine `node` in attempt `number`."""
    return folder_of(job_folder, number) / f"node-{node}.log"


def process_of(job_folder: Path, number: int, node: int) -> Path:
    """Return the file with the process id of machine `node`'s agent in attempt `number`."""
    return folder_of(job_folder, number) / f"node-{node}.pid"


def beat_of(job_folder: Path, number: int, node: int) -> Path:
    """Return the file that machine `node` writes again and again in attempt `number`.

    It names the machine; its age tells when the machine last gave a sign of life.
    """
    return folder_of(job_folder, number) / f"node-{node}.beat"


def ending_of(job_folder: Path, number: int, node: int) -> Path:
    """Return the file in which machine `node` leaves word of its end in attempt `number`."""
    return folder_of(job_folder, number) / f"node-{node}.json"


def write_ending(job_folder: Path, number: int, ending: NodeEnding) -> None:
    """Leave word of how a machine's part ended."""
    storage.write_json(ending_of(job_folder, number, ending.node), asdict(ending))


def beat(job_folder: Path, number: int, node: int, host: str) -> None:
    """Give a sign of life for machine `node`."""
    storage.write_json(beat_of(job_folder, number, node), {"host": host})


def endings(job_folder: Path, number: int) -> list[NodeEnding]:
    """Return the endings that the machines left, in their order."""
    found = folder_of(job_folder, number).glob("node-*.json")
    read = [NodeEnding(**json.loads(path.read_text(encoding="utf-8"))) for path in found]
    return sorted(read, key=lambda ending: ending.node)


def cause_of(code: int) -> str:
    """Name what exit `code` stands for; a negative code is the signal that killed the attempt."""
    meant = ExitCode.BAD_NODE if code < 0 else ExitCode.FAILURE
    meant = ExitCode(code) if code in set(ExitCode) else meant
    return meant.name.lower().replace("_", "-")


def code_of(found: Iterable[NodeEnding], nodes: int, *, led: bool = False) -> int:
    """Return the code of an attempt on `nodes` machines; one that left no word is a bad node.

    `led`: the first machine alone says how it ended, and the others only helped, as in a build.
    """
    if led:
        found, nodes = [ending for ending in found if ending.node == 0], 1
    codes = [ExitCode.BAD_NODE if ending.code < 0 else ending.code for ending in found]
    codes += [ExitCode.BAD_NODE] * (nodes - len(codes))
    return worst([int(code) for code in codes])


def code_told(job_folder: Path, number: int, nodes: int) -> int:
    """Return the code of attempt `number` on `nodes` machines, by the endings that they left."""
    led = job_of(job_folder).run.corpus is not None
    return code_of(endings(job_folder, number), nodes, led=led)


def allowed(retry: Retry, cause: str) -> float:
    """Return how many attempts in a row may end with `cause`, no further than before."""
    if cause == "preempted":
        return float("inf") if retry.preempted == "unlimited" else retry.preempted
    return {"bad-node": retry.bad_node, "failure": retry.bug}.get(cause, 0)


def submit(job_folder: Path, job: Job) -> None:
    """Write down a job and that it was submitted."""
    from trawl import recipe

    storage.create_exclusive(job_folder / IDENTITY, secrets.token_hex(4).encode())
    storage.write_text(job_folder / "job.yaml", recipe.dump(job))
    with EventLog(job_folder / EVENTS) as events:
        # Relative paths of the job and its recipe begin there.
        events.write("submitted", backend=job.place.backend, folder=str(Path.cwd()))


def identity(job_folder: Path) -> str:
    """Return what all attempts of the job have in common and no other job has."""
    file = job_folder / IDENTITY
    return file.read_text(encoding="utf-8") if file.exists() else ""


def newest(job_folder: Path) -> int:
    """Return the number of the newest attempt, 0 if there was none."""
    told = [event.get("attempt", 0) for event in read_events(job_folder / EVENTS)]
    # A launcher may have died between the one and the other.
    begun = [int(path.parent.name.split("-")[1]) for path in job_folder.glob(f"attempt-*/{_BEGUN}")]
    return max([0, *told, *begun])


def since_submission(job_folder: Path) -> list[dict[str, Any]]:
    """Return the events since the job was last submitted."""
    found: list[dict[str, Any]] = []
    for event in read_events(job_folder / EVENTS):
        if event["kind"] == "submitted":
            found.clear()
        else:
            found.append(event)
    return found


def was_told(job_folder: Path, kind: str) -> bool:
    """Whether there was an event of `kind` since the job was last submitted."""
    return any(event["kind"] == kind for event in since_submission(job_folder))


def history(job_folder: Path) -> list[Attempt]:
    """Return the attempts since the job was submitted; one whose end nobody told has no cause."""
    found: dict[int, Attempt] = {}
    for event in since_submission(job_folder):
        if event["kind"] == "attempt-started":
            found[event["attempt"]] = Attempt(event["attempt"])
        elif event["kind"] == "attempt-ended":
            ended = Attempt(event["attempt"], event["cause"], event.get("progress", 0))
            found[event["attempt"]] = ended
    return [found[number] for number in sorted(found)]


def beginning(job_folder: Path, number: int) -> dict[str, Any]:
    """Return the event with which attempt `number` began, {} if there is none."""
    for event in read_events(job_folder / EVENTS):
        if event["kind"] == "attempt-started" and event["attempt"] == number:
            return event
    return {}


def hosts_of(job_folder: Path, number: int) -> list[str]:
    """Return the machines of attempt `number`, as its place calls them, as far as it said."""
    for event in read_events(job_folder / EVENTS):
        if event.get("attempt") == number and "hosts" in event:
            return list(event["hosts"])
    return []


def may_go_on(retry: Retry, attempts: Iterable[Attempt]) -> bool:
    """Say whether there may be another attempt after these, which have all ended.

    Only those count that got no further than the ones before them; what never may be tried again,
    a wrong request say, is not tried again for having got further.
    """
    fruitless: Counter[str] = Counter()
    furthest, again = 0, True
    for attempt in attempts:
        cause = str(attempt.cause)
        if attempt.progress > furthest:
            furthest = attempt.progress
            fruitless.clear()
        else:
            fruitless[cause] += 1
        limit = allowed(retry, cause)
        again = cause != "done" and limit > 0 and fruitless[cause] <= limit
    return again


def begin(job_folder: Path, number: int, progress: int, **more: object) -> bool:
    """Write that attempt `number` begins, and say whether it may; not if another has begun it.

    Attempts that a dead machine left open are closed first, by what their machines have told.
    """
    job = job_of(job_folder)
    with EventLog(job_folder / EVENTS) as events:
        for attempt in history(job_folder):
            if attempt.number >= number:
                return False
            if attempt.cause is None:
                nodes = beginning(job_folder, attempt.number).get("nodes", 1)
                code = code_told(job_folder, attempt.number, nodes)
                _write_end(events, attempt.number, code, progress)
        # Another may begin it meanwhile: that one judges by the same attempts.
        known = [attempt for attempt in history(job_folder) if attempt.number < number]
        if known and not may_go_on(job.retry, known):
            events.write("job-ended", cause=known[-1].cause, code=None)
            return False
        begun = folder_of(job_folder, number) / _BEGUN
        if not storage.create_exclusive(begun, b""):
            return False
        events.write("attempt-started", attempt=number, **more)
    return True


def end(job_folder: Path, number: int, code: int, progress: int, *, stopped: bool = False) -> bool:
    """Write how attempt `number` ended, and say whether there will be another.

    Nothing is written, and there will be none, where a newer attempt has begun: whoever asks was
    cut off, and another has taken over the job.
    """
    if newest(job_folder) > number:
        return False
    job = job_of(job_folder)
    with EventLog(job_folder / EVENTS) as events:
        _write_end(events, number, code, progress)
        again = not stopped and may_go_on(job.retry, history(job_folder))
        if not again:
            events.write("job-ended", cause=cause_of(code), code=code)
    return again


def _write_end(events: EventLog, number: int, code: int, progress: int) -> None:
    events.write(
        "attempt-ended", attempt=number, code=int(code), cause=cause_of(code), progress=progress
    )


def job_of(job_folder: Path) -> Job:
    """Read the job that was submitted into `job_folder`; RequestError if none was."""
    from trawl import recipe

    if not (job_folder / "job.yaml").exists():
        raise RequestError(f"{job_folder}: no job here; submit one first")
    return recipe.load(job_folder / "job.yaml", Job)
