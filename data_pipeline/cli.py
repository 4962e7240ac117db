"""The commands `trawl corpus` and `trawl regions`; heavy parts are imported when one is called."""

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline import upkeep_cli as upkeep
from data_pipeline.regions_cli import regions
from trawl.errors import RequestError, WorkError

corpus = typer.Typer(
    help="Build, watch, check and explain corpora of image-text pairs.", no_args_is_help=True
)

Uri = Annotated[str, typer.Argument(metavar="URI", help="Folder or s3:// address of a corpus.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")
]

__all__ = ["corpus", "regions"]

corpus.command(epilog="Example: trawl corpus forget out/web --list takedown.txt")(upkeep.forget)
corpus.command(epilog="Example: trawl corpus retry out/web")(upkeep.retry)
corpus.command(epilog="Example: trawl corpus plan web.yaml --pairs 1e9 --machines 100")(upkeep.plan)
corpus.command(epilog="Example: trawl corpus select out/web out/strict --set score.threshold=0.3")(
    upkeep.select
)


@corpus.command(
    epilog="Example: trawl corpus build web.yaml --out out/web --set score.threshold=0.3"
)
def build(
    recipe: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped recipe.")],
    changes: Set = None,
    out: Annotated[str | None, typer.Option(help="Where the corpus goes: folder or s3://.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check recipe and sources, build nothing.")] = False,
    attempt: Annotated[
        str | None, typer.Option(metavar="JOB:N", help="Which attempt this is, for launchers.")
    ] = None,
) -> None:
    """Build a corpus; killed anywhere, the same command goes on where it was."""
    from data_pipeline import build as building
    from data_pipeline.corpus.manifest import manifest_sha256, read_manifest
    from data_pipeline.recipe import CorpusRecipe, locate
    from trawl import recipe as recipes
    from trawl.fence import Attempt

    resolved = recipes.load(locate(recipe), CorpusRecipe, changes or ())
    place = out or resolved.out
    if place is None:
        raise RequestError(f"{recipe}: key out is missing; add it, or give --out")
    resolved = resolved.model_copy(update={"out": place})
    if dry_run:
        for line in building.outlook(resolved, place):
            print(line)
        return
    building.build(resolved, place, Attempt.parse(attempt) if attempt else None)
    manifest = read_manifest(place)
    print(f"{place}: {manifest.samples:,} samples in {len(manifest.shards)} shards")
    print(f"manifest_sha256 {manifest_sha256(place)}")


@corpus.command(epilog="Example: trawl corpus status out/web")
def status(uri: Uri) -> None:
    """Show how far a build is: progress, rate, time left, drops by reason."""
    from data_pipeline.status import status_lines

    for line in status_lines(uri):
        print(line)


@corpus.command(epilog="Example: trawl corpus verify s3://bucket/corpora/web")
def verify(uri: Uri) -> None:
    """Check every file of a corpus against its manifest: checksum, schema, count."""
    from data_pipeline.corpus.verify import verify as check

    faults = 0
    for name, found in check(uri):
        print(f"{'damaged' if found else 'good':8} {name}")
        for fault in found:
            print(f"         {fault}")
        faults += len(found)
    if faults:
        raise WorkError(f"{uri}: {faults} faults; build it again or copy it anew")


@corpus.command(epilog="Example: trawl corpus report out/web -o web.html")
def report(
    uri: Uri,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The HTML file.")] = None,
    sections: Annotated[
        Path | None, typer.Option(help="Write the sections as JSON, for a larger report.")
    ] = None,
) -> None:
    """Write one self-contained HTML page: funnel, histograms, kept and dropped with reasons."""
    from data_pipeline.report import corpus_sections
    from trawl import storage
    from trawl.report import page, sections_to_json

    if out is None and sections is None:
        raise RequestError("report: nothing to write; give -o FILE or --sections FILE")
    made = corpus_sections(uri)
    if sections is not None:
        storage.write_json(sections, sections_to_json(made))
    if out is not None:
        storage.write_text(out, page(f"Corpus {uri}", made))


@corpus.command(epilog="Example: trawl corpus explain out/web http://news.trawl.test/story.html")
def explain(
    uri: Uri,
    what: Annotated[str, typer.Argument(help="Address of a page or an image, or a sample's key.")],
) -> None:
    """Tell the life of one page, image address or sample: each step's decision."""
    from data_pipeline.explain import explain_lines

    for line in explain_lines(uri, what):
        print(line)


@corpus.command(
    "import", epilog="Example: trawl corpus import lxmert-tsv train2014_obj36.tsv corpora/gold"
)
def import_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="lxmert-tsv, oscar-tsv, vilbert-lmdb, hf-frcnn or xvlm-jsonl."
        ),
    ],
    src: Annotated[str, typer.Argument(metavar="SRC", help="File or folder of the features.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where the corpus goes.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the corpus; else the last part of OUT.")
    ] = None,
    captions: Annotated[
        str | None, typer.Option(help="COCO caption JSON; captions go by image id.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder of the images, named by image id.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="File of labels (oscar-tsv); else predictions.tsv.")
    ] = None,
    objects: Annotated[
        str | None, typer.Option(help="Names of objects, one a line; else objects_vocab.txt.")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="Names of attributes; else attributes_vocab.txt.")
    ] = None,
    features: Annotated[str, typer.Option(help="float16 or int8.")] = "float16",
    samples: Annotated[int, typer.Option(help="Rows to a shard.")] = 1000,
    detector: Annotated[
        str | None, typer.Option(help="Name of the detector for the manifest.")
    ] = None,
    selection: Annotated[
        str | None, typer.Option(help="Rule by which regions were chosen, for the manifest.")
    ] = None,
) -> None:
    """Make a corpus of others' features; killed anywhere, the same command goes on."""
    from data_pipeline.corpus.manifest import manifest_sha256
    from data_pipeline.derived import drops
    from data_pipeline.exchange.formats import IMPORTS, check_kind, open_source
    from data_pipeline.exchange.importing import import_corpus
    from data_pipeline.exchange.recipe import ImportRecipe
    from trawl import recipe as recipes

    check_kind(kind, IMPORTS, "import")
    content = {
        "name": name or out.rstrip("/").rpartition("/")[2],
        "kind": kind,
        "source": src,
        "labels": labels,
        "objects": objects,
        "attributes": attributes,
        "images": images,
        "captions": captions,
        "features": features,
        "samples": samples,
        "detector": detector,
        "selection": selection,
    }
    asked = recipes.parse(content, ImportRecipe, "corpus import")
    manifest = import_corpus(open_source(asked), asked, out)
    print(
        f"{out}: {manifest.samples:,} samples, {manifest.regions:,} regions, "
        f"{manifest.captions:,} captions in {len(manifest.shards)} shards"
    )
    if told := drops(manifest):
        print(f"{told}; trawl corpus explain {out} IMAGE_ID says why")
    print(f"manifest_sha256 {manifest_sha256(out)}")


@corpus.command(epilog="Example: trawl corpus export oscar-tsv corpora/web oscar")
def export(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="lxmert-tsv or oscar-tsv.")],
    uri: Uri,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A .tsv file; oscar-tsv: a folder.")],
    ids: Annotated[
        str, typer.Option(help="Image ids: url (imported ids among them) or key.")
    ] = "url",
) -> None:
    """Write the features of a corpus as LXMERT's or Oscar's own code reads them."""
    from data_pipeline.exchange.exporting import export_corpus
    from data_pipeline.exchange.formats import EXPORTS, check_kind

    check_kind(kind, EXPORTS, "export")
    if ids not in ("url", "key"):
        raise RequestError(f"--ids {ids}: choose url or key")
    print(f"{out}: {export_corpus(kind, uri, out, ids):,} images")


@corpus.command(
    "train-scorer", epilog="Example: trawl corpus train-scorer out/in-domain scorer.json"
)
def train_scorer(
    uri: Uri,
    out: Annotated[Path, typer.Argument(help="The JSON file for `score.model`.")],
    seed: Annotated[int, typer.Option(help="Chooses the mismatched pairs.")] = 0,
) -> None:
    """Train the built-in model of image-text agreement from a clean corpus."""
    from data_pipeline.steps.score_training import train

    print(train(uri, out, seed))


@corpus.command(
    "train-natural",
    epilog="Example: trawl corpus train-natural natural.safetensors --photographs photos",
)
def train_natural(
    out: Annotated[Path, typer.Argument(help="The file for `image_filter.natural.model`.")],
    photographs: Annotated[
        list[str] | None, typer.Option(help="Folder of photographs; may be given several times.")
    ] = None,
    graphics: Annotated[
        list[str] | None, typer.Option(help="Folder of what is to be dropped; the same.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="JSON lines that label images of WARC files.")
    ] = None,
    warcs: Annotated[str, typer.Option(help="Folder of those WARC files.")] = ".",
    made: Annotated[int, typer.Option(min=0, help="Made pictures of each class.")] = 900,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 1200,
    seed: Annotated[int, typer.Option(help="Chooses the made pictures and the order.")] = 0,
) -> None:
    """Train the model that tells photographs from graphics; made pictures suffice to begin."""
    from data_pipeline.natural.training import Sources, train

    sources = Sources(made, photographs or (), graphics or (), labels, warcs)
    print(train(sources, out, seed, steps))
