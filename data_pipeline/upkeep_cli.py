"""The commands for a corpus that is there: take down, fetch again, select anew, plan."""

from typing import Annotated

import typer

from trawl.errors import RequestError

Uri = Annotated[str, typer.Argument(metavar="URI", help="Folder or s3:// address of a corpus.")]


def forget(
    uri: Uri,
    listed: Annotated[
        str,
        typer.Option(
            "--list",
            metavar="FILE",
            help="What to take down, one a line: address of an image or page, domain, SHA-256, "
            "key, or perceptual hash.",
        ),
    ],
) -> None:
    """Take samples out for good; rewrites only the shards that hold them."""
    from data_pipeline.forgetting import forget as take_down

    record = take_down(uri, listed)
    print(
        f"{uri}: {record.samples:,} samples and {record.candidates:,} candidates forgotten, "
        f"{len(record.shards)} shards rewritten; takedowns/{record.number:04d}.json"
    )
    print(f"manifest_sha256 {record.manifest_sha256}")


def retry(
    uri: Uri,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change where things lie, no more."),
    ] = None,
) -> None:
    """Fetch again what failed for a passing reason, and build anew with what came."""
    from data_pipeline.corpus.manifest import manifest_sha256
    from data_pipeline.retrying import retry as fetch_again

    told = fetch_again(uri, changes or ())
    if not told.fetched:
        print(f"{uri}: nothing to do; no fetch failed for a reason that may pass")
    else:
        print(f"{uri}: {told.fetched:,} addresses fetched again, {told.changed:,} came out anew")
    print(f"manifest_sha256 {manifest_sha256(uri)}")


def select(
    uri: Uri,
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where the new corpus goes.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a threshold of the recipe."),
    ] = None,
) -> None:
    """Make a corpus at other thresholds from what another has fetched, fetching nothing."""
    from data_pipeline.corpus.manifest import manifest_sha256, read_manifest
    from data_pipeline.selecting import select as choose

    choose(uri, out, changes or ())
    manifest = read_manifest(out)
    print(f"{out}: {manifest.samples:,} samples in {len(manifest.shards)} shards")
    print(f"manifest_sha256 {manifest_sha256(out)}")


def plan(
    recipe: Annotated[str, typer.Argument(help="YAML file, or the name of a shipped recipe.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe."),
    ] = None,
    pairs: Annotated[float, typer.Option(help="Samples that the corpus is to have.")] = 10e6,
    measure: Annotated[
        bool, typer.Option(help="Measure the rates here, on a share of the recipe's own input.")
    ] = False,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the input that --measure builds.")
    ] = 0.01,
    rates: Annotated[
        str | None,
        typer.Option(help="File of rates: written by --measure, else read instead of ours."),
    ] = None,
    machines: Annotated[int, typer.Option(min=1, help="Machines.")] = 10,
    cores: Annotated[int, typer.Option(min=1, help="Cores of a machine.")] = 16,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of a machine, for detection.")] = 0,
    gpu_images: Annotated[
        float, typer.Option(min=0, help="Images a second that one GPU detects; 0: on cores.")
    ] = 0.0,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the time in which they work.")
    ] = 0.7,
    megabits: Annotated[float, typer.Option(min=1, help="Network of a machine, Mbit/s.")] = 5000.0,
    core_hour: Annotated[float, typer.Option(min=0, help="Dollars a core and hour.")] = 0.04,
    gpu_hour: Annotated[float, typer.Option(min=0, help="Dollars a GPU and hour.")] = 2.5,
    gigabyte_in: Annotated[float, typer.Option(min=0, help="Dollars a GB that comes in.")] = 0.0,
    gigabyte_month: Annotated[
        float, typer.Option(min=0, help="Dollars a GB stored for a month.")
    ] = 0.023,
    months: Annotated[float, typer.Option(min=0, help="Months that the corpus is stored.")] = 1.0,
) -> None:
    """Estimate machines, hours, bytes and cost of a corpus, from measured rates."""
    from data_pipeline import planning
    from data_pipeline.rates import dump_rates, load_rates
    from data_pipeline.rates import measure as measure_rates
    from data_pipeline.recipe import CorpusRecipe, locate
    from trawl import recipe as recipes
    from trawl import storage

    asked = recipes.load(locate(recipe), CorpusRecipe, changes or ())
    if not pairs > 0:
        raise RequestError(f"--pairs {pairs}: ask for more than none")
    if measure:
        known = measure_rates(asked, share)
        if rates is not None:
            storage.write_text(rates, dump_rates(known))
    else:
        known = load_rates(rates)
    prices = planning.Prices(
        machines=machines,
        cores=cores,
        gpus=gpus,
        gpu_images_per_second=gpu_images,
        utilisation=utilisation,
        megabits_per_second=megabits,
        core_hour=core_hour,
        gpu_hour=gpu_hour,
        gigabyte_in=gigabyte_in,
        gigabyte_month=gigabyte_month,
        months=months,
    )
    for line in planning.plan_lines(planning.plan(asked, known, prices, pairs), known):
        print(line)
