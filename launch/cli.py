"""`trawl launch`: start jobs and watch them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from launch.job import Job

launch = typer.Typer(help="Start jobs and watch them.", no_args_is_help=True)

JobFile = Annotated[Path, typer.Argument(help="Job file (YAML).")]
Folder = Annotated[Path, typer.Option("--state", help="Folder of the jobs' state.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the job.")
]


@launch.command(epilog="Example: trawl launch submit job.yaml --dry-run")
def submit(
    job_file: JobFile,
    state: Folder = Path("jobs"),
    changes: Changes = None,
    on: Annotated[str | None, typer.Option(help="The place, over the job's place.backend.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print what would be handed over, only.")] = False,
    diff: Annotated[
        bool, typer.Option(help="Print what differs from the last submission, only.")
    ] = False,
) -> None:
    """Start the job in the background, or queue it."""
    from launch.rendering import difference, render
    from launch.state import place_of

    job = _load(job_file, [*(changes or []), *([f"place.backend={on}"] if on else [])])
    folder = (state / job.name).absolute()
    if diff:
        print(difference(job, folder), end="")
        return
    if dry_run:
        texts = render(job, str(folder))
        for name, text in texts.items():
            print(f"# {name}\n{text}" if len(texts) > 1 else text, end="")
        return
    print(f"{job.name}: submitted, {place_of(job).submit(job, folder)}")


@launch.command(epilog="Example: trawl launch status job.yaml")
def status(job_file: JobFile, state: Folder = Path("jobs")) -> None:
    """Say whether the job runs or how it ended."""
    from launch.state import state_of

    job = _load(job_file)
    found = state_of((state / job.name).absolute())
    print(f"{job.name}: {found.now}, attempts {found.attempt}, last event {found.last}")


@launch.command(epilog="Example: trawl launch logs job.yaml --node 1")
def logs(
    job_file: JobFile,
    state: Folder = Path("jobs"),
    attempt: Annotated[int | None, typer.Option(help="Which attempt; the newest.")] = None,
    node: Annotated[int | None, typer.Option(help="One machine alone, from 0.")] = None,
) -> None:
    """Print what an attempt printed."""
    from launch import state as states

    print(states.logs((state / _load(job_file).name).absolute(), attempt, node), end="")


@launch.command(epilog="Example: trawl launch stop job.yaml")
def stop(job_file: JobFile, state: Folder = Path("jobs")) -> None:
    """Tell the job to save and end; return when it has."""
    from launch import attempts
    from launch.state import place_of

    folder = (state / _load(job_file).name).absolute()
    place_of(attempts.job_of(folder)).stop(folder)


def _load(job_file: Path, changes: list[str] | None = None) -> "Job":
    """Read the job file."""
    from launch.job import Job
    from trawl import recipe

    return recipe.load(job_file, Job, changes or [])
