"""The commands `trawl pretrain`, `trawl evaluate` and `trawl checkpoint`."""

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
checkpoint = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="List, show, publish, pull and verify checkpoints.",
    epilog="Example: trawl checkpoint pull s3://bucket/releases/name/stage ./model",
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
    overrides: Overrides = None,
    work: Annotated[
        Path | None, typer.Option(help="Local folder for runs in an object store.")
    ] = None,
) -> None:
    """Run a pretraining through its stages, or go on with it; the same command resumes it.

    Exit codes: 0 done, 1 failure, 2 wrong request, 65 data, 71 machine, 75 preempted, 79 numerics.
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
    arguments += [part for override in overrides or [] for part in ("--set", override)]
    if "RANK" in os.environ:
        from pretrain.__main__ import main

        raise typer.Exit(main(arguments))
    from pretrain.local_launch import launch

    ending = launch(arguments, processes or _devices(), read.checkpoint.grace_seconds)
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
    out: Annotated[Path | None, typer.Option(help="Write the scores here, as JSON.")] = None,
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


@checkpoint.callback()
def _checkpoint() -> None:
    """List, show, publish, pull and verify checkpoints."""


@checkpoint.command(
    epilog="Example: trawl checkpoint publish RUN/stages/in-domain s3://b/r/in-domain"
)
def publish(
    source: Annotated[str, typer.Argument(help="A published stage: its folder.")],
    target: Annotated[str, typer.Argument(help="Folder of its releases: local, or s3:// URI.")],
) -> None:
    """Copy a release to a folder of releases, under its hash, and number it as the latest there.

    The manifest goes last, and what lies there never changes. A release that is there already keeps
    its number: `latest` moves forward only.
    """
    from pretrain.checkpoints import shelf

    content, pointer = shelf.put(source, target)
    print(f"{target}/{shelf.address(content['sha256'])}  number {pointer.number}")


@checkpoint.command(
    epilog="Example: trawl checkpoint pull s3://bucket/releases/r/in-domain ./model"
)
def pull(
    source: Annotated[
        str, typer.Argument(help="A release, or a folder of releases: the latest, or FOLDER@3.")
    ],
    target: Annotated[Path, typer.Argument(help="The local folder that it becomes.")],
) -> None:
    """Fetch a release, each file checked against its SHA-256; go on where a killed pull ended."""
    from pretrain.checkpoints.pull import pull as pull_release

    content = pull_release(source, target)
    print(f"{target}  {content['sha256']}")


@checkpoint.command(epilog="Example: trawl checkpoint verify ./model")
def verify(
    uri: Annotated[str, typer.Argument(help="A release or a training checkpoint.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Fail too when an ancestor or corpus is not at hand.")
    ] = False,
) -> None:
    """Check every file against the manifest, then walk back through parents to the corpora."""
    from pretrain.checkpoints import ancestry
    from pretrain.checkpoints.pull import verify as verify_release
    from pretrain.checkpoints.shelf import resolve
    from trawl.errors import WorkError

    content = verify_release(uri)
    print(f"{uri}: whole, {len(content['files'])} files, {content['sha256']}")
    wrong = []
    for link in ancestry.walk(resolve(uri)):
        state = link.problem or (f"as named, at {link.uri}" if link.uri else "not at hand")
        print(f"{link.kind:<7} {link.name}  {link.sha256[:12]}: {state}")
        if link.problem or (everything and link.uri is None):
            wrong.append(f"{link.kind} {link.name}: {state}")
    if wrong:
        raise WorkError(f"{uri}: its lineage is broken: {wrong[0]}")


@checkpoint.command(
    "import", epilog="Example: trawl checkpoint import base-vg-labels/ep_67 ./oscar --format oscar"
)
def import_original(
    source: Annotated[
        Path, typer.Argument(help="The original: its file of tensors or its folder.")
    ],
    target: Annotated[Path, typer.Argument(help="The release that is made: a new folder.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="oscar, vinvl, xvlm, vilbert, vilbert-mt, lxmert, lxmert-hf or bert."
        ),
    ],
    family: Annotated[
        str | None, typer.Option(help="With bert: the family that gets its text weights.")
    ] = None,
    overrides: Overrides = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer; nothing: the original's.")
    ] = None,
    new_heads: Annotated[
        bool,
        typer.Option("--new-heads", help="Draw heads that a fine-tuned checkpoint lacks."),
    ] = False,
    unsafe_pickle: Annotated[
        bool,
        typer.Option("--unsafe-pickle", help="Read a pickle that may run code: trust its maker."),
    ] = False,
) -> None:
    """Make a release of a checkpoint of the original repositories, strict about its keys.

    --set changes our configuration, for example --set num_attention_heads=4 where no file says it.
    The release serves as `published:` in a recipe; exported in the same format it is the original.
    """
    from pretrain.checkpoints import import_export
    from pretrain.checkpoints.formats import format_named

    request = import_export.ImportRequest(
        source=source,
        target=target,
        form=format_named(form, family),
        overrides=tuple(overrides or ()),
        tokenizer=tokenizer,
        unsafe_pickle=unsafe_pickle,
        new_heads=new_heads,
    )
    print("\n".join(import_export.import_checkpoint(request)))


@checkpoint.command(
    "export", epilog="Example: trawl checkpoint export ./lxmert ./hf --format lxmert-hf"
)
def export_original(
    source: Annotated[Path, typer.Argument(help="A release, or the folder of a saved model.")],
    target: Annotated[Path, typer.Argument(help="New folder, or file of a format of one file.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="oscar, vinvl, xvlm, vilbert, vilbert-mt, lxmert, lxmert-hf or bert."
        ),
    ],
    wrapper: Annotated[
        bool,
        typer.Option(
            "--module-prefix",
            help="Begin keys with `module.`: LXMERT's fine-tuning reads no others.",
        ),
    ] = False,
) -> None:
    """Write the files of the original repositories from a model of ours."""
    from pretrain.checkpoints import import_export

    request = import_export.ExportRequest(source, target, form, wrapper)
    print("\n".join(import_export.export_checkpoint(request)))


@checkpoint.command("list", epilog="Example: trawl checkpoint list s3://bucket/releases")
def list_all(
    uri: Annotated[str, typer.Argument(help="A folder of releases, or a run.")],
) -> None:
    """List the releases and training checkpoints at and below a place; a star marks the latest."""
    from pretrain.checkpoints.catalogue import entries
    from trawl.errors import RequestError

    found = entries(uri)
    if not found:
        raise RequestError(f"{uri}: no release and no checkpoint lies there or below")
    for entry in found:
        print(
            f"{entry.kind:<11} {entry.stage:<16} step {entry.step:>8}  "
            f"{entry.bytes / 1e6:9.1f} MB  {entry.sha256[:12]}  {entry.number:>4}  {entry.uri}"
        )


@checkpoint.command(epilog="Example: trawl checkpoint show ./model")
def show(
    uri: Annotated[str, typer.Argument(help="A release or a training checkpoint.")],
) -> None:
    """Show where a release comes from and how good it is, without checking its files."""
    from pretrain.checkpoints.catalogue import description

    print(description(uri))
