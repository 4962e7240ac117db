"""Where a job's work leaves what it makes, as its recipe says."""

from pathlib import Path

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.recipe import locate as locate_corpus
from launch import attempts
from launch.job import Job
from pretrain.recipe import PretrainRecipe, locate
from pretrain.run_folder import RunFolder
from trawl import recipe as recipes
from trawl import storage
from trawl.events import read_events


def training_of(job: Job, folder: Path) -> tuple[PretrainRecipe, RunFolder] | None:
    """Return the recipe of the job's pretraining and the run's folder; None for another work.

    folder: the job's own. RequestError where the recipe cannot be read.
    """
    if job.run.pretrain is None:
        return None
    here = _work_folder(job, folder)
    place = _absolute(here, locate(job.run.pretrain))
    recipe = recipes.load(place, PretrainRecipe, job.run.changes)
    return recipe, RunFolder(_absolute(here, recipe.checkpoint.uri))


def corpus_of(job: Job, folder: Path) -> str | None:
    """Return the URI of the corpus that the job builds; None for another work.

    folder: the job's own. RequestError where the recipe cannot be read.
    """
    if job.run.corpus is None:
        return None
    here = _work_folder(job, folder)
    place = _absolute(here, locate_corpus(job.run.corpus))
    out = recipes.load(place, CorpusRecipe, job.run.changes).out
    return _absolute(here, out) if out else None


def _work_folder(job: Job, folder: Path) -> Path:
    """Return the folder in which the work runs: the place's, or where the job was submitted."""
    if job.place.folder is not None:
        return Path(job.place.folder)
    told = [e for e in read_events(folder / attempts.EVENTS) if e["kind"] == "submitted"]
    return Path(told[-1].get("folder", ".")) if told else Path()


def _absolute(here: Path, uri: str) -> str:
    return uri if storage.is_remote(uri) else str(here / uri.removeprefix("file://"))
