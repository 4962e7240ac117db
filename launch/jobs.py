"""Finding the folder of a job that a person names."""

from pathlib import Path

from launch.job import Job
from trawl import recipe
from trawl.errors import RequestError


def folder_of(named: str, state: Path) -> Path:
    """Return the folder of the job whose file, name or folder is `named`; `state` holds the jobs.

    RequestError if it is none of these.
    """
    path = Path(named)
    if (path / "job.yaml").is_file():
        return path.absolute()
    if path.is_file():
        return (state / recipe.load(path, Job).name).absolute()
    if (state / named / "job.yaml").is_file():
        return (state / named).absolute()
    raise RequestError(f"{named}: no job file, and no job of that name in {state}; mend the path")


def folders_in(state: Path) -> list[Path]:
    """Return the folders of all jobs in `state`, those that changed last first."""
    found = [file.parent for file in state.glob("*/job.yaml")]
    return [
        folder.absolute()
        for folder in sorted(found, key=lambda each: _changed(each / "events.jsonl"), reverse=True)
    ]


def _changed(file: Path) -> float:
    return file.stat().st_mtime if file.exists() else 0.0
