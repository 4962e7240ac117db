"""A run: through the stages in order, each trained, evaluated and published, or resumed."""

import logging
import os
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pretrain import (
    bad_steps,
    construction,
    endings,
    engine,
    flops,
    metrics,
    objectives,
    presets,
    release,
    trackers,
)
from pretrain.batch_size import micro_batch_size
from pretrain.checkpoints import lineage, manifest, resize, resume, shelf
from pretrain.checkpoints.publish import publish
from pretrain.checkpoints.save import Saver, Written
from pretrain.feeding import Feed, Feeding
from pretrain.guards import RollbackError
from pretrain.held_out import held_out
from pretrain.obedience import ObedientFeed
from pretrain.ranks import Ranks, join, leave
from pretrain.recipe import PretrainRecipe, StageRecipe
from pretrain.run_folder import RunFolder
from pretrain.run_log import open_log
from pretrain.step_record import recorded
from pretrain.step_watch import StepWatch
from pretrain.stopping import Budget, StopSignal
from pretrain.trainer import BadStep, Trainer
from pretrain.watch_run import watching
from pretrain.watchdog import Watchdog
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError, TrawlError
from trawl.events import EventLog
from trawl.fence import Attempt

_LOG = logging.getLogger("pretrain")


@dataclass(frozen=True)
class Options:
    """What `trawl pretrain run` was asked."""

    recipe: str
    stage: str | None = None
    resume: str = "auto"
    overrides: list[str] = field(default_factory=list)
    work: Path | None = None
    attempt: Attempt | None = None


@dataclass(frozen=True)
class Run:
    """What all stages of one run share."""

    recipe: PretrainRecipe
    options: Options
    folder: RunFolder
    ranks: Ranks
    behind: Ranks
    """The same ranks, as the threads speak that write checkpoints."""
    line: Ranks
    """The same ranks, as they agree before each step."""
    stop: StopSignal
    watchdog: Watchdog

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event, on rank 0."""
        if self.ranks.first:
            with EventLog(self.folder.events, self.folder.fence) as log:
                log.write(kind, **fields)
        _LOG.info("%s %s", kind, fields)


def run(options: Options) -> None:
    """Run the stages that `options` ask for, as one of the ranks.

    Raises what the commands turn into exit codes: see pretrain.exit_codes.
    """
    recipe = recipes.load(options.recipe, PretrainRecipe, options.overrides)
    wanted = _wanted(recipe, options)
    trackers.check(recipe.watch)
    folder = RunFolder(recipe.checkpoint.uri, options.work)
    leave_at_once = partial(endings.leave_at_once, folder, os.dup(2))
    stop = StopSignal(leave_at_once, recipe.checkpoint.grace_seconds)
    engine.be_deterministic()
    ranks = join()
    with watching(folder, ranks, recipe.guards.silent_seconds) as watchdog:
        this = Run(recipe, options, folder, ranks, ranks.apart(), ranks.apart(), stop, watchdog)
        _run(this, wanted)


def _run(run: Run, wanted: list[StageRecipe]) -> None:
    """Run the stages `wanted` in a folder that is this run's alone meanwhile."""
    folder, ranks, stop = run.folder, run.ranks, run.stop
    lock = folder.lock(run.options.attempt) if ranks.first else -1
    try:
        if ranks.first:
            folder.claim()
            folder.begin(run.options.attempt)
        folder.fence = ranks.from_first(folder.fence)
        if ranks.first_in(folder.remote):
            folder.discard_leftovers()
        ranks.barrier()
        open_log(folder.logs(ranks.rank))
        _go(run, wanted)
    except Exception as error:
        ending = endings.meaning(error, folder, stop.came)
        if isinstance(ending, TrawlError):
            # The disk may be what is at fault.
            with suppress(OSError):
                run.event("run-stopped", code=int(ending.exit_code), message=str(ending))
        if ending is error:
            raise
        raise ending from error
    finally:
        stop.close()
        leave()
        if lock >= 0:
            os.close(lock)


def _go(run: Run, wanted: list[StageRecipe]) -> None:
    _refuse_restart(run)
    if run.ranks.first:
        if not run.folder.events.exists():
            run.folder.fetch(run.folder.events)
        storage.write_text(run.folder.local / "recipe.yaml", recipes.dump(run.recipe))
    run.event("run-started", ranks=run.ranks.size, stages=[stage.name for stage in wanted])
    for stage in wanted:
        _stage(run, stage)
    run.event("run-done")
    if run.ranks.first:
        run.folder.push_small_files()


def _wanted(recipe: PretrainRecipe, options: Options) -> list[StageRecipe]:
    """Return the stages to run; RequestError for a name that the recipe does not have."""
    if options.stage is None:
        return list(recipe.stages)
    names = [stage.name for stage in recipe.stages]
    if options.stage not in names:
        raise RequestError(
            f"{options.recipe}: no stage {options.stage}; --stage takes {', '.join(names)}"
        )
    return [recipe.stage(options.stage)]


def _refuse_restart(run: Run) -> None:
    """Raise RequestError when the run has checkpoints and `--resume never` would bury them."""
    if run.options.resume != "never":
        return
    for stage in run.recipe.stages:
        if resume.newest(run.folder, stage.name).found:
            raise RequestError(
                f"--resume never: {run.folder.uri} holds checkpoints of stage {stage.name}; "
                "remove the folder, or give the run another checkpoint.uri"
            )


def _stage(run: Run, stage: StageRecipe) -> None:
    """Bring one stage to its published form, from wherever it is."""
    published = run.folder.published(stage.name)
    if run.ranks.first and run.folder.remote:
        release.fetch(run.folder, stage.name)
    run.ranks.barrier()
    if (published / manifest.NAME).exists():
        content = manifest.read(published)
        lineage.refuse_changes(content, run.recipe, stage)
        run.event("stage-skipped", stage=stage.name, manifest_sha256=content["sha256"])
        if run.folder.remote and run.ranks.first:
            run.folder.check()
            publish(published, run.folder.twin(published))
    else:
        _train_and_publish(run, stage)
    target = run.recipe.publish_uri(stage)
    if target is not None and run.ranks.first:
        run.folder.check()
        content, pointer = shelf.put(str(published), target)
        place = f"{target}/{shelf.address(content['sha256'])}"
        run.event("stage-released", stage=stage.name, uri=place, number=pointer.number)
    run.ranks.barrier()


def _train_and_publish(run: Run, stage: StageRecipe) -> None:
    """Train `stage`, again from its last checkpoint whenever the guard wants that."""
    while True:
        try:
            _train_once(run, stage)
        except RollbackError as back:
            fields = {"stage": stage.name, "first": back.first, "last": back.last}
            run.event(bad_steps.ROLLED_BACK, **fields)
            _say(run, f"stage {stage.name} goes back past steps {back.first} to {back.last}")
            # The next attempt is made of this event, wherever it takes place.
            if run.ranks.first:
                run.folder.push_small_files()
            run.ranks.barrier()
        else:
            return


def _train_once(run: Run, stage: StageRecipe) -> None:
    parts = construction.build(run.recipe, stage, run.folder, run.ranks)
    micro_batch = micro_batch_size(stage, run.ranks.size, parts.lengths)
    # Before DeepSpeed has the model, since it may divide the weights.
    meter = flops.meter(parts.model, stage, run.recipe.watch.peak_tflops, run.ranks)
    checkpoint = _asked_for(run, stage) or _newest(run, stage)
    wrapped, start = _start(run, stage, parts, micro_batch, checkpoint)
    facts = lineage.facts(run.recipe, stage)
    feed = _feed(run, stage, parts, micro_batch)
    reporter = bad_steps.Reporter(run.folder, stage.name, run.ranks, parts.corpora, feed)
    run.event("stage-started", stage=stage.name, step=start, steps=stage.steps)
    budget = Budget(run.stop.usable_seconds, partial(_say, run))
    saver = _saver(run, stage, facts, budget)
    obey = partial(ObedientFeed, stage=stage.name, line=run.line, stop=run.stop)
    # An evaluation has nothing to save.
    given_up = partial(obey, save=lambda step: None)
    evaluation = held_out(run.recipe, stage, parts, wrapped, micro_batch, run.ranks, given_up)
    if evaluation is not None:
        evaluation.catch_up(run.folder, start, run.watchdog.beat)
    with recorded(run.recipe, stage, run.folder, run.ranks, start) as record, saver:

        def save(step: int) -> None:
            record.sync()
            saver.save(wrapped, step)

        obedient = obey(feed, save=save)

        def note(step: metrics.StepMetrics) -> None:
            run.stop.training = True
            if run.ranks.first and not run.folder.remote:
                run.folder.check()
            budget.step(step.seconds)
            record.write(
                replace(step, replaced=obedient.replaced, storage_retries=obedient.retries)
            )
            for shard, fault in feed.new_faults():
                run.event("shard-passed-over", shard=shard, fault=fault)

        def bad(step: BadStep) -> None:
            run.event(bad_steps.BAD_STEP, **reporter.write(step))

        watch = StepWatch(
            stage=stage,
            ranks=run.ranks,
            engine=wrapped,
            feed=feed,
            meter=meter,
            checksum_steps=run.recipe.watch.checksum_steps,
            held_out=evaluation,
            beat=run.watchdog.beat,
            record=note,
            bad=bad,
            event=run.event,
        )
        trainer = Trainer(
            seed=run.recipe.seed,
            stage=stage,
            engine=wrapped,
            feed=obedient,
            compute_losses=objectives.compute,
            ranks=run.ranks,
            stop=run.stop,
            guard=bad_steps.guard_of(run.folder, run.recipe.guards, stage.name, run.ranks),
            watch=watch,
            save=save,
            every_steps=run.recipe.checkpoint.every_steps,
        )
        try:
            with run.watchdog.expecting(run.recipe.guards.hang_seconds):
                trainer.train(start)
        except RollbackError:
            wrapped.destroy()
            raise
    run.stop.training = False
    content = release.make(run.recipe, stage, run.folder, run.ranks, wrapped, parts, facts)
    run.event("stage-published", stage=stage.name, manifest_sha256=content["sha256"])
    wrapped.destroy()


def _feed(run: Run, stage: StageRecipe, parts: construction.Parts, micro_batch: int) -> Feed:
    return Feed(
        parts.order,
        parts.maker,
        stage.batch.samples,
        micro_batch,
        run.ranks,
        Feeding.of(run.recipe.feeding, stage, parts.corpora, run.ranks.device),
        stage.batch.balance,
    )


def _saver(run: Run, stage: StageRecipe, facts: dict[str, Any], budget: Budget) -> Saver:
    """Return the stage's saver, which tells of each checkpoint that is whole."""

    def written(made: Written) -> None:
        times = {"paused": round(made.paused, 3), "seconds": round(made.seconds, 3)}
        place = {"stage": stage.name, "step": made.step, "folder": str(made.folder)}
        run.event("checkpoint", **place, **times)
        budget.saved(made.seconds)

    return Saver(run.folder, stage.name, run.behind, run.recipe.checkpoint, facts, written)


def _start(
    run: Run,
    stage: StageRecipe,
    parts: construction.Parts,
    micro_batch: int,
    checkpoint: resume.Checkpoint | None,
) -> tuple[Any, int]:
    """Return the engine, as `checkpoint` left it if there is one, and the steps that are done."""
    if checkpoint is None:
        _cut_metrics(run, stage, 0)
        return engine.start(parts.model, stage, micro_batch, run.ranks), 0
    lineage.refuse_changes(checkpoint.manifest, run.recipe, stage)
    with ExitStack() as stack:
        converted = None
        if resize.needed(checkpoint, presets.zero_stage(stage.deepspeed), run.ranks):
            converted = stack.enter_context(resize.universal(checkpoint, run.folder, run.ranks))
        wrapped = engine.start(parts.model, stage, micro_batch, run.ranks, converted is not None)
        resume.load(wrapped, checkpoint, run.ranks, converted)
    _cut_metrics(run, stage, checkpoint.step)
    run.event(
        "resumed",
        stage=stage.name,
        step=checkpoint.step,
        folder=str(checkpoint.folder),
        ranks=run.ranks.size,
        ranks_before=checkpoint.world_size,
    )
    return wrapped, checkpoint.step


def _asked_for(run: Run, stage: StageRecipe) -> resume.Checkpoint | None:
    """Return the checkpoint that `--resume PATH` names, if it is one of `stage`."""
    if run.options.resume in ("auto", "never"):
        return None
    checkpoint = resume.at(Path(run.options.resume))
    return checkpoint if checkpoint.manifest["stage"] == stage.name else None


def _newest(run: Run, stage: StageRecipe) -> resume.Checkpoint | None:
    """Return the newest whole checkpoint of `stage`, the same on all ranks; name torn ones."""
    folder = None
    # With an object store each machine looks for itself, and its first rank fetches.
    if run.ranks.first_in(run.folder.remote):
        search = resume.newest(run.folder, stage.name)
        folder = search.found.folder if search.found else None
        for torn, reason in search.torn:
            run.event("checkpoint-torn", folder=torn, reason=reason)
            _say(run, f"checkpoint {torn} is passed over: {reason}")
    folder = run.ranks.from_first(folder)
    run.ranks.barrier()
    return resume.Checkpoint(folder, manifest.read(folder)) if folder else None


def _say(run: Run, text: str) -> None:
    if run.ranks.first:
        print(f"trawl: {text}", file=sys.stderr, flush=True)


def _cut_metrics(run: Run, stage: StageRecipe, step: int) -> None:
    """Take the steps to be done again out of the metrics; fetch those if they are not here."""
    if run.ranks.first:
        names = [each.name for each in run.recipe.stages]
        path = run.folder.metrics
        kept = metrics.upto(metrics.read(path), names, stage.name, step)
        if kept is None:
            run.folder.fetch(path)
            kept = metrics.upto(metrics.read(path), names, stage.name, step)
        if kept is None:
            run.event("metrics-incomplete", stage=stage.name, step=step)
        else:
            metrics.rewrite(path, kept)
    run.ranks.barrier()
