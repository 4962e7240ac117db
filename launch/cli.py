"""`trawl launch`: start jobs and watch them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from launch.job import Job

launch = typer.Typer(help="Start jobs and watch them.", no_args_is_help=True)

JobFile = Annotated[Path, typer.Argument(help="Job file (YAML).")]
State = Annotated[Path, typer.Option(help="Folder of the jobs' state.")]


@launch.command(epilog="Example: trawl launch submit job.yaml --dry-run")
def submit(
    job_file: JobFile,
    state: State = Path("jobs"),
    dry_run: Annotated[bool, typer.Option(help="Print what would run, and run nothing.")] = False,
) -> None:
    """Start the job in the background."""
    from launch import local
    from launch.render import local_script

    job = _load(job_file)
    if dry_run:
        print(local_script(job), end="")
        return
    pid = local.submit(job, (state / job.name).absolute())
    print(f"{job.name}: started, supervised by process {pid}")


@launch.command(epilog="Example: trawl launch status job.yaml")
def status(job_file: JobFile, state: State = Path("jobs")) -> None:
    """Say whether the job runs or how it ended."""
    from launch import local

    job = _load(job_file)
    found, attempts, event = local.status((state / job.name).absolute())
    print(f"{job.name}: {found}, attempts {attempts}, last event {event}")


@launch.command(epilog="Example: trawl launch logs job.yaml")
def logs(job_file: JobFile, state: State = Path("jobs")) -> None:
    """Print what the newest attempt printed."""
    from launch import local

    print(local.logs((state / _load(job_file).name).absolute()), end="")


@launch.command(epilog="Example: trawl launch stop job.yaml")
def stop(job_file: JobFile, state: State = Path("jobs")) -> None:
    """Tell the job to save and end; return when it has."""
    from launch import local

    local.stop((state / _load(job_file).name).absolute())


def _load(job_file: Path) -> "Job":
    """Read the job file."""
    from launch.job import Job
    from trawl import recipe

    return recipe.load(job_file, Job)
