"""`trawl launch`: start jobs and watch them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.preflight.cli import preflight

if TYPE_CHECKING:
    from launch.job import Job

launch = typer.Typer(help="Start jobs and watch them.", no_args_is_help=True)

launch.command(epilog="Example: trawl launch preflight job.yaml")(preflight)

JobFile = Annotated[Path, typer.Argument(help="Job file (YAML).")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Job file, name, or folder.")]
Jobs = Annotated[
    list[str] | None, typer.Argument(metavar="[JOB]...", help="Job files, names, or folders.")
]
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
    exclude_from: Annotated[
        str | None,
        typer.Option(help="`preflight`, or a preflight.json: leave out what it excludes."),
    ] = None,
) -> None:
    """Start the job in the background, or queue it."""
    from launch.preflight.run import without_unfit
    from launch.rendering import difference, render
    from launch.state import place_of

    job = _load(job_file, [*(changes or []), *([f"place.backend={on}"] if on else [])])
    folder = (state / job.name).absolute()
    if exclude_from is not None:
        job = without_unfit(job, exclude_from, folder)
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
def status(
    jobs: Jobs = None,
    state: Folder = Path("jobs"),
    json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
) -> None:
    """Say how jobs are: state, progress, machines, and what is wrong; without JOB, of all."""
    from launch import status_table
    from launch.jobs import folder_of, folders_in
    from launch.status import status_of
    from trawl.errors import TrawlError

    statuses = [status_of(folder_of(job, state)) for job in jobs or []]
    for folder in [] if jobs else folders_in(state):
        try:
            statuses.append(status_of(folder))
        except TrawlError as error:  # one that is damaged must not hide the others
            print(f"trawl: {error}", file=sys.stderr)
    if json:
        print(status_table.as_json(statuses))
    elif jobs:
        status_table.show(statuses)
    else:
        status_table.show_list(statuses)


@launch.command(epilog="Example: trawl launch logs job.yaml --node 1")
def logs(
    job: JobArgument,
    state: Folder = Path("jobs"),
    attempt: Annotated[int | None, typer.Option(help="Which attempt; the newest.")] = None,
    node: Annotated[int | None, typer.Option(help="One machine alone, from 0.")] = None,
    rank: Annotated[int | None, typer.Option(help="One rank alone, from 0.")] = None,
    grep: Annotated[str | None, typer.Option(help="Lines that this pattern is in.")] = None,
    since: Annotated[str | None, typer.Option(help="The last 90s, 15m, 2h or 1d.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
) -> None:
    """Print what an attempt's machines and ranks wrote, merged by time."""
    from launch import logs as logs_of
    from launch.jobs import folder_of

    chosen = logs_of.Chosen.of(node=node, rank=rank, grep=grep, since=since)
    for line in logs_of.lines(folder_of(job, state), attempt, chosen, follow=follow):
        print(line, flush=follow)


@launch.command(epilog="Example: trawl launch explain job.yaml")
def explain(job: JobArgument, state: Folder = Path("jobs")) -> None:
    """Say in a paragraph why the job ended or what holds it up, and what to do."""
    from launch.explain import explanation
    from launch.jobs import folder_of

    print(explanation(folder_of(job, state)))


@launch.command(epilog="Example: trawl launch dashboard --port 8420")
def dashboard(
    jobs: Jobs = None,
    state: Folder = Path("jobs"),
    port: Annotated[int, typer.Option(help="Port to listen at; 0: any that is free.")] = 8420,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
) -> None:
    """Serve a page about the jobs, and /metrics for Prometheus, until it is interrupted."""
    import contextlib

    from launch.dashboard.reading import Reading
    from launch.dashboard.server import Dashboard

    with Dashboard(host, port, Reading(state, list(jobs or []))) as server:
        print(f"the jobs are at {server.address} and {server.address}metrics", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@launch.command(epilog="Example: trawl launch stop job.yaml")
def stop(job: JobArgument, state: Folder = Path("jobs")) -> None:
    """Tell the job to save and end; return when it has."""
    from launch import attempts
    from launch.jobs import folder_of
    from launch.state import place_of

    folder = folder_of(job, state)
    place_of(attempts.job_of(folder)).stop(folder)


def _load(job_file: Path, changes: list[str] | None = None) -> "Job":
    """Read the job file."""
    from launch.job import Job
    from trawl import recipe

    return recipe.load(job_file, Job, changes or [])
