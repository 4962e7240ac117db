"""`trawl regions`: train, evaluate and run region detectors."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from data_pipeline.corpus.manifest import Manifest
    from data_pipeline.detector.examples import ExampleSource
    from data_pipeline.detector.processes import Share
    from data_pipeline.detector.training import TrainingSettings

regions = typer.Typer(help="Train, evaluate and run region detectors.", no_args_is_help=True)

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="Folder with images/ and instances.json (COCO boxes), repeatable; or one with Visual "
        "Genome's JSON and images.",
    ),
]
World = Annotated[
    int | None, typer.Option("--world", help="Seed of the demo's world to render scenes of.")
]
Detector = Annotated[
    str, typer.Option(help="demo, butd, butd-d2, vinvl, torchvision or detectron2.")
]
Weights = Annotated[str, typer.Option(help="builtin, or the detector's weights file.")]
Selection = Annotated[
    str | None, typer.Option(help="Rule by which regions are chosen; vinvl has no usual one.")
]
RandomWeights = Annotated[
    int | None, typer.Option(metavar="SEED", help="Random weights in place of a file, to try out.")
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
    processes: Annotated[
        int,
        typer.Option(min=1, help="Processes that share each step, each with its own --threads."),
    ] = 1,
    device: Annotated[
        str, typer.Option(help="cpu, cuda (a GPU for each process), or auto: a GPU where one is.")
    ] = "auto",
    number: Annotated[
        str, typer.Option(help="float32 or bfloat16, of the convolutions.")
    ] = "bfloat16",
) -> None:
    """Train the small Faster R-CNN; killed anywhere, the same command goes on.

    Under torchrun it is one of torchrun's processes; `--processes` starts them on this machine.
    GPUs meet over NCCL, processes on CPUs over gloo.
    """
    from functools import partial

    import torch

    from data_pipeline.detector.arithmetic import slow_number
    from data_pipeline.detector.making import open_source
    from data_pipeline.detector.processes import device_kind, joined, start
    from data_pipeline.detector.training import TrainingSettings
    from trawl.errors import RequestError

    if number not in ("float32", "bfloat16"):
        raise RequestError(f"--number {number} is not known; choose float32 or bfloat16")
    kind = device_kind(device)
    for text in slow_number(number, kind, "--number"):
        typer.echo(f"WARNING: {text}", err=True)
    torch.set_num_threads(threads)
    source = open_source(data or [], world, split, scenes)
    settings = TrainingSettings(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        bfloat16=number == "bfloat16",
    )
    work = partial(_make_weights, source, out, settings, cache, workers, _this_command())
    if processes > 1:
        start(processes, work, kind)
        return
    with joined(kind) as share:
        work(share)


def _make_weights(
    source: "ExampleSource",
    out: Path,
    settings: "TrainingSettings",
    cache: Path | None,
    workers: int,
    command: str,
    share: "Share",
) -> None:
    """Do one process's share of a training; the first process tells of it."""
    from data_pipeline.detector.making import make_weights

    if share.first:
        for reason, count in getattr(source, "left_out", {}).items():
            typer.echo(f"{count:,} images left out: {reason}")
    made = make_weights(
        source, out, settings, cache=cache, workers=workers, command=command, share=share
    )
    if share.first:
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


@regions.command(
    epilog="Example: trawl regions extract images/ --out corpora/regions --detector butd "
    "--weights faster_rcnn.pkl"
)
def extract(
    source: Annotated[
        str, typer.Argument(metavar="CORPUS_OR_IMAGES", help="A corpus, or a folder of images.")
    ],
    out: Annotated[str, typer.Option(help="Where the corpus goes: folder or s3://.")],
    detector: Detector = "demo",
    weights: Weights = "builtin",
    selection: Selection = None,
    boxes_from: Annotated[
        str | None,
        typer.Option(help="TSV of LXMERT's form: take its boxes, and compare its features."),
    ] = None,
    random_weights: RandomWeights = None,
    features: Annotated[str, typer.Option(help="float16 or int8.")] = "float16",
    name: Annotated[
        str | None, typer.Option(help="Name of the corpus; else the last part of --out.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Images that are detected together.")] = 8,
    samples: Annotated[int, typer.Option(help="Images to a shard, for a folder.")] = 1000,
    max_pixels: Annotated[int, typer.Option(help="Pixels an image may have.")] = 50_000_000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    number: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Let torch.compile prepare the network.")
    ] = False,
    chunks: Annotated[
        str, typer.Option(help="Numbers of regions that res5 is compiled for, falling.")
    ] = "300,100,36",
    kernels: Annotated[
        str, typer.Option(help="What pools and suppresses on a GPU, as roi_pool=cuda-c++.")
    ] = "",
    workers: Annotated[
        int, typer.Option(help="Ray actors that do shards; 0: this process alone.")
    ] = 0,
    ray_address: Annotated[
        str | None, typer.Option(help="Running Ray cluster for the actors; else one is started.")
    ] = None,
    threads: Threads = 2,
) -> None:
    """Find the regions of images anew; killed anywhere, the same command goes on."""
    import torch

    from data_pipeline.detector.extraction_recipe import ExtractRecipe
    from data_pipeline.detector.extraction_run import extract as run
    from trawl import recipe as recipes

    torch.set_num_threads(threads)
    asked = recipes.parse(
        {
            "name": name or out.rstrip("/").rpartition("/")[2],
            "source": source,
            "detector": detector,
            "weights": weights,
            "random_weights": random_weights,
            "selection": selection,
            "boxes_from": boxes_from,
            "features": features,
            "batch": batch,
            "samples": samples,
            "max_pixels": max_pixels,
            "device": device,
            "number": number,
            "compiled": compiled,
            "chunks": chunks.split(","),
            "kernels": dict(part.partition("=")[::2] for part in kernels.split(",") if part),
            "workers": workers,
            "ray_address": ray_address,
        },
        ExtractRecipe,
        "regions extract",
    )
    for line in _summary(run(asked, out), out, boxes_from is not None):
        typer.echo(line)


def _summary(manifest: "Manifest", out: str, compared: bool) -> Iterator[str]:
    """Yield what an extraction tells at its end: differences, storage, counts, drops, hash."""
    from data_pipeline.derived import drops
    from data_pipeline.detector.extraction_run import differences_of, padding_of, storage_of

    differences = differences_of(out)
    for image_id, difference, _ in differences:
        yield f"mean |difference| {difference:.6f} {image_id}"
    if differences:
        total = sum(count for _, _, count in differences)
        mean = sum(value * count for _, value, count in differences) / total
        yield f"mean |difference| {mean:.6f} over {total} regions of {len(differences)} images"
    elif compared:
        yield "no difference to tell: the TSV has none of these images, or features of another size"
    yield from storage_of(out).lines()
    if (padding := padding_of(out)) is not None:
        yield f"padding {padding:.1%} of the computed pixels"
    yield f"{out}: {manifest.samples:,} samples, {manifest.regions:,} regions"
    if told := drops(manifest):
        yield f"{told}; trawl corpus explain {out} IMAGE says why"
    yield f"manifest_sha256 {manifest.sha256()}"


@regions.command(
    epilog="Example: trawl regions weights pytorch_model.bin --out frcnn.pth --layout milvlg"
)
def weights(
    file: Annotated[
        Path, typer.Argument(help="A publisher's .pkl, .bin or .pth, or a .safetensors of ours.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write them here; .safetensors is our canonical form.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="Publisher's layout of --out: fork, hf, milvlg or vinvl; else its own."),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="Conventions to follow: butd, butd-d2 or vinvl; else the publisher's."),
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(help="caffe, d2 or vinvl, in place of those of the file.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another file of the same detector, to compare with.")
    ] = None,
) -> None:
    """Check weights of a published detector, convert them, or compare two files of one detector.

    Every key has to be known, present and of its shape. In its own layout a file is given back bit
    for bit.
    """
    from data_pipeline.detector import c4_storage
    from data_pipeline.detector.c4_weights import anchor_difference, disagreement

    found = c4_storage.load_c4(file, family, anchors)
    objects, attributes = len(found.objects), len(found.attributes)
    typer.echo(f"{file}: {found.config.family} in the layout of {found.layout}")
    typer.echo(f"{len(found.tensors)} tensors, {objects} objects, {attributes} attributes")
    typer.echo(f"anchors of {found.anchors}, {anchor_difference(found):.4f} px from the family's")
    typer.echo(f"sha256 {found.sha256}, of the published file {found.source_sha256}")
    if against is not None:
        apart = disagreement(found, c4_storage.load_c4(against))
        for name, value in sorted(apart.items(), key=lambda item: -item[1])[:5]:
            typer.echo(f"relative difference {value:.2e} {name}")
    if out is not None:
        c4_storage.write(out, found, layout)
        typer.echo(f"{out}: written")


@regions.command(epilog="Example: trawl regions show corpora/web#0 --out regions.png")
def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE_OR_CORPUS[#KEY]", help="An image file, or a sample of a corpus."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    detector: Detector = "demo",
    weights: Weights = "builtin",
    selection: Selection = None,
    random_weights: RandomWeights = None,
    confidence: Annotated[float, typer.Option(help="Least confidence that is drawn.")] = 0.2,
    most: Annotated[int, typer.Option(help="Most regions that are drawn.")] = 36,
) -> None:
    """Draw boxes, objects, attributes and confidences on an image, and list them."""
    from data_pipeline.detector import drawing
    from data_pipeline.detector.extraction_recipe import ExtractRecipe
    from data_pipeline.detector.extraction_run import open_detector
    from data_pipeline.detector.showing import open_shown
    from trawl import storage

    asked = ExtractRecipe(
        name="show",
        source=what,
        detector=detector,
        weights=weights,
        selection=selection,
        random_weights=random_weights,
    )
    found = open_shown(what, lambda: open_detector(asked), asked.rule)
    style = drawing.Style(confidence, most)
    drawn = drawing.shown(found.regions, style)
    for number in drawn:
        corners = " ".join(f"{value:.1f}" for value in found.regions.boxes[number])
        told = drawing.label(found.regions, number, found.objects, found.attributes)
        typer.echo(f"{told}  at {corners}")
    picture = drawing.draw(found.image, found.regions, found.objects, found.attributes, style)
    storage.write_bytes(out, drawing.to_png(picture))
    typer.echo(f"{out}: {len(drawn)} of {len(found.regions)} regions")


def _this_command() -> str:
    """The command line that is running, as one would type it."""
    return shlex.join(["trawl", *sys.argv[1:]])
