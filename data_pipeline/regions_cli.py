"""`trawl regions`: train, evaluate and run region detectors."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

regions = typer.Typer(help="Train, evaluate and run region detectors.", no_args_is_help=True)

Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="Folder with images/ and instances.json (COCO boxes); repeatable."),
]
World = Annotated[
    int | None, typer.Option("--world", help="Seed of the demo's world to render scenes of.")
]
Threads = Annotated[int, typer.Option(help="Threads of the computation.")]


@regions.command(epilog="Example: trawl regions train --world 0 --out demo.safetensors")
def train(
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    data: Data = None,
    world: World = None,
    split: Annotated[str, typer.Option(help="Split of the world.")] = "train",
    scenes: Annotated[int, typer.Option(help="Scenes of the world to train on.")] = 12288,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 3400,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Highest rate of AdamW.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps the prepared examples between runs.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that prepare examples; 0: this one.")] = 2,
    threads: Threads = 2,
) -> None:
    """Train the small Faster R-CNN; killed anywhere, the same command goes on."""
    import torch

    from data_pipeline.detector.making import make_weights, open_source
    from data_pipeline.detector.training import TrainingSettings

    torch.set_num_threads(threads)
    source = open_source(data or [], world, split, scenes)
    settings = TrainingSettings(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed)
    made = make_weights(
        source, out, settings, cache=cache, workers=workers, command=_this_command()
    )
    typer.echo(f"{out}: {len(made.objects)} objects, {made.made_by['seconds']} s")


@regions.command(epilog="Example: trawl regions evaluate --world 1 --split held-out --scenes 500")
def evaluate(
    weights: Annotated[str, typer.Option(help="builtin, or a .safetensors file.")] = "builtin",
    data: Data = None,
    world: World = None,
    split: Annotated[str, typer.Option(help="Split of the world.")] = "held-out",
    scenes: Annotated[int, typer.Option(help="Scenes of the world.")] = 500,
    selection: Annotated[str, typer.Option(help="Rule by which regions are chosen.")] = (
        "butd-10-100"
    ),
    overlap: Annotated[float, typer.Option(help="Least overlap of a right box.")] = 0.5,
    record: Annotated[
        bool, typer.Option("--record", help="Write the result into the weights' JSON file.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the result here, as JSON.")] = None,
    threads: Threads = 2,
) -> None:
    """Measure the mean average precision of a detector on boxes with known truth."""
    import torch

    from data_pipeline.detector.inference import load_detector
    from data_pipeline.detector.making import measure, open_source, record_precision
    from data_pipeline.detector.weights import BUILTIN
    from trawl import storage

    torch.set_num_threads(threads)
    source = open_source(data or [], world, split, scenes)
    detector = load_detector("demo", weights)
    precision = measure(detector, source, selection, overlap)
    ranked = sorted(precision.by_class.items(), key=lambda item: item[1])
    for object_id, value in ranked:
        typer.echo(f"{value:.3f} {detector.objects[object_id]}")
    typer.echo(f"mAP@{overlap:g} {precision.mean:.4f} on {len(source)} images, {selection}")
    if out is not None:
        by_name = {detector.objects[object_id]: value for object_id, value in ranked}
        level = f"{overlap * 100:g}"
        result = {f"map{level}": precision.mean, f"ap{level}": by_name, "images": len(source)}
        storage.write_json(out, result)
    if record:
        path = BUILTIN if weights == "builtin" else Path(weights)
        record_precision(path, precision, _this_command(), len(source))


def _this_command() -> str:
    """The command line that is running, as one would type it."""
    return shlex.join(["trawl", *sys.argv[1:]])
