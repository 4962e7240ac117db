"""Why a job ended, or what holds it up, in one paragraph: who, where, and what to do."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch import attempts, evidence, output
from launch.advice import advice
from launch.attempts import NodeEnding
from launch.blame import NAMED_HOST
from launch.evidence import Window, of_kind, within
from launch.status import AttemptStatus, JobStatus, status_of
from launch.words import ago, number
from pretrain.exit_codes import ExitCode
from trawl.errors import RequestError

_OURS = "trawl: "
# What becomes of SIGTERM and SIGINT in libraries and shells that obey them in their own way.
_TOLD_TO_STOP = (15, -15, 130, 143)
_MORE_ATTEMPTS = 3


@dataclass(frozen=True)
class Ended:
    """How one attempt ended."""

    attempt: AttemptStatus
    code: int
    said: str
    """In whose words: of the run, of a machine, or ours where nobody left any."""
    host: str
    node: int | None

    @property
    def window(self) -> Window:
        """The time of the attempt."""
        return Window(self.attempt.began, self.attempt.ended or float("inf"))


def explanation(folder: Path) -> str:
    """Return the paragraph about the job in `folder`; RequestError if there is none."""
    status = status_of(folder)
    ended = [_ended(folder, status, each) for each in status.attempts if each.code is not None]
    sentences = [_state(status)]
    waits = status.runs or status.now in ("pending", "requeued")
    if waits:
        sentences += [_sentence(trouble.text) for trouble in status.troubles]
    if status.now == "lost":
        sentences += _lost(folder, status)
    if ended:
        if waits or status.now == "lost":
            sentences.append(f"Attempt {ended[-1].attempt.number} ended: {_name(ended[-1].code)}.")
        sentences += _about(folder, status, ended[-1], advise=not (waits or status.now == "lost"))
        sentences += _earlier(ended[:-1])
    return " ".join(sentence for sentence in sentences if sentence)


def _state(status: JobStatus) -> str:
    """Say what state the job is in, and how far it came."""
    tries = f"attempt {status.attempts[-1].number}" if status.attempts else "no attempt yet"
    far = ""
    if (training := status.training) is not None and training.stage is not None:
        far = f", at step {training.step:,} of {training.steps:,} of stage {training.stage}"
        far += f" (loss {number(training.loss)})"
    elif (corpus := status.corpus) is not None and corpus.phase is not None:
        far = f", at {corpus.phase_units_done:,} of {corpus.phase_units:,} units of {corpus.phase}"
        far += f", {corpus.kept:,} {corpus.kept_as} kept"
    if status.runs or status.now in ("pending", "requeued"):
        return f"Job {status.name} is {status.now} ({tries}){far}."
    last = status.attempts[-1] if status.attempts else None
    code = f" (exit code {last.code})" if last and last.code is not None else ""
    how = "is lost" if status.now == "lost" else f"ended: {status.now}{code}"
    return f"Job {status.name} {how}, {tries}{far}."


def _ended(folder: Path, status: JobStatus, attempt: AttemptStatus) -> Ended:
    """Find out whose word tells why `attempt` ended."""
    assert attempt.code is not None
    code = ExitCode.BAD_NODE if attempt.code < 0 else attempt.code
    told = attempts.endings(folder, attempt.number)
    blamed = [each for each in told if _code(each) == code]
    blamed.sort(key=lambda each: ("lost another rank" in each.message, each.node))
    if blamed:
        first = blamed[0]
        said = _said(first)
        named = NAMED_HOST.search(said)
        return Ended(attempt, code, said, named.group(1) if named else first.host, first.node)
    if code == ExitCode.BAD_NODE:
        heard = {each.node for each in told}
        silent = [n for n in status.nodes if n.attempt == attempt.number and n.node not in heard]
        host = silent[0].host if silent else ""
        name = f"machine {silent[0].node}" if silent else "a machine"
        said = f"{name} left no word of its end: it was killed, cut off, or not reached"
        return Ended(attempt, code, said, host, silent[0].node if silent else None)
    return Ended(attempt, code, "", "", None)


def _code(ending: NodeEnding) -> int:
    return int(ExitCode.BAD_NODE) if ending.code < 0 else ending.code


def _said(ending: NodeEnding) -> str:
    """Return a machine's last words, ours where it was killed before it could say any."""
    if ending.code in _TOLD_TO_STOP:
        return "it was told to stop, and ended before it could say so"
    if ending.code < 0:
        name = signal.Signals(-ending.code).name
        return f"its work was killed from outside by {name}"
    if ending.message.startswith(_OURS):
        return ending.message.removeprefix(_OURS)
    return f"its log ends in: {ending.message}" if ending.message else "it ended without a word"


def _about(folder: Path, status: JobStatus, ended: Ended, *, advise: bool) -> Iterator[str]:
    """Yield the sentences about how an attempt ended and, to `advise`, what to do."""
    work = status.training or status.corpus
    events = within(work.events, ended.window) if work else []
    run, corpus = _places(folder, ended.said)
    machine = f" (told by machine {ended.node})" if ended.node is not None else ""
    if ended.host and ended.host not in ended.said:
        machine = f" (machine {ended.node}, {ended.host})"
    if ended.said and ended.code != ExitCode.DONE:
        yield f"{_sentence(ended.said)[:-1]}{machine}."
    elif stopped := of_kind(events, "run-stopped"):
        yield _sentence(stopped[-1]["message"])
    yield from _training(status, ended, events, run)
    yield from _corpus(events)
    if not advise:
        return
    code = ExitCode.PREEMPTED if "told to stop" in ended.said else ended.code
    todo = advice(code, ended.said, host=ended.host, run=run, corpus=corpus)
    if todo:
        yield todo
    elif ended.code == ExitCode.DONE:
        yield "There is nothing to do."


def _training(
    status: JobStatus, ended: Ended, events: list[dict[str, Any]], run: str
) -> Iterator[str]:
    if status.training is None:
        return
    yield evidence.bad_step(events, run)
    place = Path(run)
    if ended.code == ExitCode.BAD_NODE:
        if waits := evidence.collectives(place, ended.window):
            yield f"By the flight recorder {waits}."
        if logs := evidence.stacks(place, ended.window):
            yield f"The stacks are in {', '.join(map(str, logs[:4]))}."
    if ended.code == ExitCode.FAILURE:
        line, log = evidence.traceback_of(place, ended.window)
        if line and line not in ended.said:
            yield f"The traceback in {log} ends with: {line}."
        elif log:
            yield f"The traceback is in {log}."
    for event in of_kind(events, "checkpoint-torn"):
        yield f"Checkpoint {event['folder']} is torn ({event['reason']}) and was passed over."
    for event in of_kind(events, "resumed")[-1:]:
        yield f"It had gone on from step {event['step']} of stage {event['stage']}."
    for event in of_kind(events, "shard-passed-over"):
        yield f"Shard {event['shard']} was left out: {event['fault']}."
    for event in of_kind(events, "stragglers")[-1:]:
        yield f"Ranks {event['ranks']} were slower than the others."
    saved = status.training.checkpoint
    if saved is not None and ended.code != ExitCode.DONE:
        yield f"Safe is step {saved.step:,} of stage {saved.stage}."


def _corpus(events: list[dict[str, Any]]) -> Iterator[str]:
    if failed := of_kind(events, "unit-failed"):
        last = failed[-1]
        yield (
            f"{len(failed)} tries of units failed, the last of {last['phase']}/{last['unit']}: "
            f"{last.get('error')}."
        )


def _places(folder: Path, said: str) -> tuple[str, str]:
    """Return the run and the corpus that what was said is about, as commands take them."""
    job = attempts.job_of(folder)
    try:
        if found := output.training_of(job, folder):
            recipe, run = found
            corpora = [data.corpus for stage in recipe.stages for data in stage.data]
            named = [corpus for corpus in corpora if corpus.rstrip("/") in said]
            return str(run.local), named[0] if named else corpora[0]
        return "", output.corpus_of(job, folder) or "CORPUS"
    except RequestError:
        return "", "CORPUS"


def _lost(folder: Path, status: JobStatus) -> Iterator[str]:
    """Yield the sentences about a job whose end nobody wrote down."""
    silent = [node for node in status.nodes if node.code is None]
    if not status.attempts:
        yield "Nobody began an attempt: the batch script or the supervisor ended before."
    if silent:
        who = f"Machine {silent[0].node} ({silent[0].host or '?'})"
        who = who if len(silent) == 1 else f"The last of its {len(silent)} machines"
        sign = max((node.sign_at for node in silent if node.sign_at), default=None)
        yield f"{who} gave its last sign of life {ago(sign, status.read_at)}."
    logs = [*folder.glob("supervisor.log"), *folder.glob("slurm-*.log")]
    told = [path for path in logs if path.stat().st_size]
    where = f"; {', '.join(map(str, told))} may say why" if told else ""
    yield (
        f"Whoever supervised it ended without a word: killed, or its machine was restarted{where}. "
        "Submit it again: it goes on from what is safe."
    )


def _earlier(ended: list[Ended]) -> Iterator[str]:
    """Yield a sentence about the attempts before the last."""
    if ended:
        told = "; ".join(
            f"{each.attempt.number} {_name(each.code)}" + (f", {each.said}" if each.said else "")
            for each in ended[-_MORE_ATTEMPTS:]
        )
        yield f"Attempts before it ended as: {told}."


def _name(code: int) -> str:
    return f"{attempts.cause_of(code)} ({code})"


def _sentence(text: str) -> str:
    """Return `text` as a sentence; a path or a name at its head stays as it is."""
    text = " ".join(text.split()).rstrip(".")
    if text.partition(" ")[0].isalpha():
        text = text[:1].upper() + text[1:]
    return f"{text}."
