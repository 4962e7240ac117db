"""The commands for a corpus that is there: take down, fetch again, select anew, plan."""

from typing import Annotated

import typer

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
