"""The commands `trawl pretrain` and `trawl evaluate`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

pretrain = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Pretrain a model in stages.",
    epilog="Example: trawl pretrain run r.yaml",
)
evaluate = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Evaluate a published stage on a downstream task.",
    epilog="Example: trawl evaluate retrieval RUN/stages/in-domain --corpus held-out",
)
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")
]


@pretrain.callback()
def _pretrain() -> None:
    """Pretrain a model in stages."""


@pretrain.command(epilog="Example: trawl pretrain run recipe.yaml --processes 2 --set seed=1")
def run(
    recipe: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped recipe.")],
    stage: Annotated[str | None, typer.Option(help="Run this stage alone.")] = None,
    resume: Annotated[str, typer.Option(help="auto, never, or a checkpoint's folder.")] = "auto",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Ranks on this machine; nothing: one a GPU, or one.")
    ] = None,
    nodes: Annotated[
        int, typer.Option(min=1, help="Machines that run it, each with as many ranks.")
    ] = 1,
    node: Annotated[int, typer.Option(min=0, help="Which of them this is, from 0.")] = 0,
    meet: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A free port of node 0, where they meet.")
    ] = "",
    overrides: Overrides = None,
    work: Annotated[
        Path | None, typer.Option(help="Local folder for runs in an object store.")
    ] = None,
    attempt: Annotated[
        str | None, typer.Option(metavar="JOB:N", help="Which attempt this is, for launchers.")
    ] = None,
) -> None:
    """Run a pretraining through its stages, or go on with it; the same command resumes it.

    On several machines the same command is given on each, with its own --node.
    Exit codes: 0 done, 1 failure, 2 wrong request, 65 data, 71 machine, 73 stale, 75 preempted,
    79 numerics.
    """
    from pretrain import trackers
    from pretrain.recipe import PretrainRecipe, locate
    from trawl import recipe as recipes

    # Read here too, so that a wrong recipe is told before any rank is started.
    recipe = locate(recipe)
    read = recipes.load(recipe, PretrainRecipe, overrides or [])
    trackers.check(read.watch)
    arguments = ["run", recipe, "--resume", resume]
    arguments += ["--stage", stage] if stage else []
    arguments += ["--work", str(work)] if work else []
    arguments += ["--attempt", attempt] if attempt else []
    arguments += [part for override in overrides or [] for part in ("--set", override)]
    if "RANK" in os.environ:
        from pretrain.__main__ import main

        raise typer.Exit(main(arguments))
    from pretrain.local_launch import Meeting, launch

    meeting = Meeting(nodes, node, meet)
    ending = launch(arguments, processes or _devices(), read.checkpoint.grace_seconds, meeting)
    if ending.message:
        print(f"trawl: {ending.message}", file=sys.stderr)
    raise typer.Exit(ending.code)


def _devices() -> int:
    import torch

    return max(1, torch.cuda.device_count())


@pretrain.command(epilog="Example: trawl pretrain report runs/oscar -o report.html")
def report(
    run_folder: Annotated[str, typer.Argument(help="The run: its checkpoint.uri.")],
    output: Annotated[Path | None, typer.Option("-o", help="Write an HTML page here.")] = None,
    sections: Annotated[
        Path | None, typer.Option(help="Write the page's sections as JSON here.")
    ] = None,
) -> None:
    """Write the report of a run: loss curves, speeds, evaluations."""
    from pretrain import report as reports
    from trawl import storage
    from trawl.errors import RequestError
    from trawl.report import page, sections_to_json

    if output is None and sections is None:
        raise RequestError("trawl pretrain report: say where to: -o FILE.html or --sections FILE")
    made = reports.sections(run_folder)
    if output is not None:
        storage.write_text(output, page(f"Pretraining at {run_folder}", made))
    if sections is not None:
        storage.write_json(sections, sections_to_json(made))


@pretrain.command("feed-check", epilog="Example: trawl pretrain feed-check recipe.yaml --gpus 8")
def feed_check(
    recipe: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped recipe.")],
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of this machine.")],
    stage: Annotated[str | None, typer.Option(help="The stage; nothing: the first one.")] = None,
    samples_per_second: Annotated[
        float, typer.Option(min=1, help="What one GPU takes; an H200 about 10,000 at base size.")
    ] = 10_000,
    overrides: Overrides = None,
) -> None:
    """Say whether this storage and this machine can feed some GPUs: read, make batches, measure.

    Exit code 1 if not. Takes some 20 seconds; nothing is written but the cache of shards.
    """
    from pretrain.feed_check import check
    from pretrain.recipe import PretrainRecipe, locate
    from trawl import recipe as recipes
    from trawl.errors import RequestError, WorkError

    loaded = recipes.load(locate(recipe), PretrainRecipe, overrides or [])
    names = [each.name for each in loaded.stages]
    if stage is not None and stage not in names:
        raise RequestError(f"{recipe}: no stage {stage}; --stage takes {', '.join(names)}")
    verdict = check(loaded, loaded.stage(stage or names[0]), gpus, samples_per_second)
    print("\n".join(verdict.lines()))
    if faults := verdict.faults():
        raise WorkError(f"{gpus} GPUs would wait for data: {'; '.join(faults)}")
    print(f"{gpus} GPUs are fed")


@pretrain.command(epilog="Example: trawl pretrain plan oscar --gpus 8 --gpu H100 --price 2.5")
def plan(
    recipe: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped recipe.")],
    gpus: Annotated[int, typer.Option(min=1, help="GPUs in all.")] = 8,
    gpu: Annotated[str, typer.Option(help="Their name.")] = "H100",
    mfu: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the peak that is reached.")
    ] = 0.4,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="Of one GPU for an hour; nothing: no cost.")
    ] = None,
    peak_tflops: Annotated[
        float | None, typer.Option(min=0.0, help="Dense peak of one GPU, of an unknown name.")
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.0, help="GB of one GPU, of an unknown name.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Plan this stage alone.")] = None,
    overrides: Overrides = None,
) -> None:
    """Say what a pretraining will take: memory, arithmetic, data, days and cost; needs no GPU."""
    from pretrain import plan as plans
    from pretrain.recipe import PretrainRecipe, locate
    from trawl import recipe as recipes

    machines = plans.Machines(gpus, gpu, mfu, price, peak_tflops, gpu_memory)
    read = recipes.load(locate(recipe), PretrainRecipe, overrides or [])
    made = plans.plan(read, machines, stage)
    for each in made:
        print("\n".join(each.lines()))
    if len(made) > 1:
        cost = sum(each.cost or 0.0 for each in made)
        total = plans.duration(sum(each.days for each in made))
        print(f"all stages: {total}" + ("" if price is None else f", costs {cost:,.2f}"))


@pretrain.command(epilog="Example: trawl pretrain compare runs/oscar runs/oscar-again")
def compare(
    one: Annotated[str, typer.Argument(help="A run: its checkpoint.uri.")],
    other: Annotated[str, typer.Argument(help="Another run.")],
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Relative difference of numbers that is none.")
    ] = 0.0,
) -> None:
    """Find the first step at which two runs part, and in what; exit code 1 if they do."""
    from pretrain.compare import compare as compare_runs

    comparison = compare_runs(one, other, tolerance)
    print("\n".join(comparison.lines()))
    raise typer.Exit(0 if comparison.parting is None else 1)


@pretrain.command(epilog="Example: trawl pretrain replay runs/oscar out-of-domain-00000120")
def replay(
    run_folder: Annotated[str, typer.Argument(help="The run: its checkpoint.uri.")],
    step: Annotated[
        str | None,
        typer.Argument(help="A file of RUN/bad-steps or its name; nothing: the newest."),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Local folder for runs in an object store.")
    ] = None,
) -> None:
    """Compute a bad step's loss again from a checkpoint: is it the data, or was it the machine?"""
    from pretrain.replay import replay as replay_step

    print("\n".join(replay_step(run_folder, step, work).lines()))


@evaluate.callback()
def _evaluate() -> None:
    """Evaluate a published stage on a downstream task."""


@evaluate.command(
    epilog="Example: trawl evaluate retrieval RUN/stages/in-domain --corpus held-out --out e.json"
)
def retrieval(
    target: Annotated[str, typer.Argument(help="A published stage's folder, or a recipe.")],
    corpus: Annotated[
        str | None, typer.Option(help="Held-out pairs; nothing: the recipe's evaluation.corpus.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Stage of the recipe; nothing: the last one.")
    ] = None,
    count: Annotated[int, typer.Option(min=2, help="Images, and as many texts.")] = 200,
    out: Annotated[str | None, typer.Option(help="Write the scores here, as JSON.")] = None,
) -> None:
    """Zero-shot retrieval between images and texts, both ways: recall at 1, 5 and 10."""
    from pretrain.evaluation import resolve, retrieval_scores
    from trawl import storage

    scores = retrieval_scores(*resolve(target, stage, corpus), count)
    for name, score in scores.items():
        if isinstance(score, float):
            print(f"{name}  {score:.3f}")
    if out is not None:
        storage.write_json(out, scores)
