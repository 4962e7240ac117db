"""How far a job's work has come, so that an attempt that got further costs no retry."""

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.recipe import locate as locate_corpus
from data_pipeline.units import LEDGER
from launch.job import Job
from pretrain.checkpoints import manifest
from pretrain.recipe import PretrainRecipe, locate
from pretrain.run_folder import COMPLETE
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError


def progress_of(job: Job) -> int:
    """Return a number that grows with what is safe: steps of checkpoints, or units of a build.

    It is 0 where the recipe cannot be read; the attempt itself says what is wrong with it.
    """
    try:
        return _progress(job)
    except RequestError:
        return 0


def _progress(job: Job) -> int:
    if job.run.pretrain is not None:
        recipe = recipes.load(locate(job.run.pretrain), PretrainRecipe, job.run.changes)
        return _steps(recipe)
    if job.run.corpus is None:
        return 0
    name = locate_corpus(job.run.corpus)
    out = recipes.load(name, CorpusRecipe, job.run.changes).out
    return len(storage.list_files(storage.join(out, LEDGER))) if out else 0


def _steps(recipe: PretrainRecipe) -> int:
    """Steps of published stages, and of the newest whole checkpoint of the stage after them."""
    steps = 0
    for stage in recipe.stages:
        published = storage.join(recipe.checkpoint.uri, "stages", stage.name, manifest.NAME)
        if not storage.exists(published):
            folder = storage.join(recipe.checkpoint.uri, "checkpoints", stage.name)
            whole = [
                int(file.rsplit("/", 2)[1].removeprefix("step-"))
                for file in storage.list_files(folder)
                if file.endswith(f"/{COMPLETE}")
            ]
            return steps + max(whole, default=0)
        steps += stage.steps
    return steps
