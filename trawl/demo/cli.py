"""`trawl demo` and `trawl world`."""

from pathlib import Path
from typing import Annotated

import typer

demo = typer.Typer()
world = typer.Typer(
    help="Make and serve the seeded world that demo and tests run on.", no_args_is_help=True
)

Seed = Annotated[int, typer.Option(help="Seed of the world; equal seeds make equal bytes.")]
Workers = Annotated[int, typer.Option(help="Processes that render.")]


@demo.command(epilog="Example: trawl demo --out out/demo")
def run_demo(
    out: Annotated[str, typer.Option(help="Folder or s3:// address of all results.")] = "out/demo",
    work: Annotated[
        Path | None, typer.Option(help="Local folder for the world; by default inside --out.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change the demo's recipe: KEY=VALUE.")
    ] = None,
) -> None:
    """Drive the whole road on this machine: crawl, pairs, regions, shards, two stages, scores.

    Killed anywhere, the same command goes on where it was. OUT/report.html shows everything that
    was made, OUT/summary.json holds the figures.
    """
    from trawl.demo.recipe import DemoRecipe
    from trawl.demo.road import drive
    from trawl.recipe import from_overrides

    drive(from_overrides(DemoRecipe, changes or [], "demo"), out, work)


@world.command(epilog="Example: trawl world captions out/train --split train --count 2000")
def captions(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    split: Annotated[str, typer.Option(help="Scenes of different splits differ.")] = "train",
    count: Annotated[int, typer.Option(help="Images.")] = 1000,
    captions_each: Annotated[int, typer.Option(help="Captions an image.")] = 5,
    seed: Seed = 0,
    workers: Workers = 2,
) -> None:
    """Write a clean caption set: images, COCO captions and boxes, region phrases, questions."""
    from trawl.demo.captions import write_captions

    write_captions(out, seed, split, count, workers=workers, captions_each=captions_each)


@world.command(epilog="Example: trawl world web out/web --scenes 300")
def web(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    scenes: Annotated[int, typer.Option(help="Good pictures in the web.")] = 1300,
    sites: Annotated[int, typer.Option(help="Sites, 30 at least.")] = 32,
    seed: Seed = 0,
    workers: Workers = 2,
) -> None:
    """Write a web with all its faults: WARC files, a store for `serve`, and the truth about it."""
    from trawl.demo.web import write_web

    write_web(out, seed, scenes, sites, workers=workers)


@world.command(epilog="Example: trawl world serve out/web --port 8080")
def serve(
    folder: Annotated[Path, typer.Argument(help="Folder that `trawl world web` wrote.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    ready_file: Annotated[
        Path | None, typer.Option(help="File to hold host:port once the server listens.")
    ] = None,
) -> None:
    """Serve a web on loopback, slow and failing hosts included, until it is stopped."""
    from trawl.demo.server import serve as run_server

    run_server(folder, port, ready_file)
