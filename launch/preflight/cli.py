"""`trawl launch preflight`."""

from pathlib import Path
from typing import Annotated

import typer

from trawl.errors import WorkError


def preflight(
    job_file: Annotated[Path, typer.Argument(help="Job file (YAML).")],
    state: Annotated[Path, typer.Option("--state", help="Folder of the jobs' state.")] = Path(
        "jobs"
    ),
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the job."),
    ] = None,
    on: Annotated[str | None, typer.Option(help="The place, over the job's place.backend.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print what would be handed over, only.")] = False,
) -> None:
    """Try the job's machines for some seconds, and name those that are unfit; exit code 1 then."""
    from launch.job import Job
    from trawl import recipe

    where = [f"place.backend={on}"] if on else []
    job = recipe.load(job_file, Job, [*(changes or []), *where])
    folder = (state / job.name).absolute()
    if dry_run:
        from launch.preflight.rendering import render

        for text in render(job, str(folder / "preflight" / "TOKEN")).values():
            print(text, end="")
        return
    from rich.console import Console

    from launch.preflight.run import RESULT, Preflight
    from launch.preflight.table import table
    from trawl import storage

    checks = Preflight(job, folder).run()
    Console().print(table(checks))
    found = storage.read_json(folder / RESULT)["exclude"]
    if found:
        print(f"exclude: {', '.join(found)}; submit with --exclude-from preflight")
    if not all(check.passed for check in checks):
        failed = [check.name for check in checks if not check.passed]
        raise WorkError(f"{job.name}: not fit: {', '.join(failed)}; see {folder / RESULT}")
