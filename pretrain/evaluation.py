"""Evaluating a release: its model and tokenizer are loaded, verified, and put to a task."""

import hashlib
import os
from pathlib import Path
from typing import Any

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.tokenise import load_tokenizer
from pretrain.checkpoints.pull import pull, verify
from pretrain.checkpoints.shelf import resolve as newest_release
from pretrain.models.loading import load_pretrained
from pretrain.recipe import PretrainRecipe
from pretrain.tasks.retrieval import evaluate_retrieval
from trawl import recipe as recipes
from trawl import storage
from trawl.errors import RequestError


def resolve(target: str, stage: str | None, corpus: str | None) -> tuple[str, str]:
    """Return release and corpus to evaluate; `target` is a release's URI or a recipe's file.

    Raises RequestError if the recipe has no such stage, or if no corpus is named.
    """
    release = target
    if target.endswith((".yaml", ".yml")):
        recipe = recipes.load(target, PretrainRecipe)
        names = [each.name for each in recipe.stages]
        if stage is not None and stage not in names:
            raise RequestError(f"{target}: no stage {stage}; --stage takes {', '.join(names)}")
        release = storage.join(recipe.checkpoint.uri, "stages", stage or names[-1])
        corpus = corpus or recipe.evaluation.corpus
    if corpus is None:
        raise RequestError(f"{target}: no corpus to evaluate on; name one with --corpus")
    return release, corpus


def retrieval_scores(release: str, corpus: str, count: int) -> dict[str, Any]:
    """Return the retrieval scores of the release at the URI `release` on `count` pairs of `corpus`.

    A release in an object store is pulled into the cache first. Raises WorkError if it is damaged.
    """
    release = newest_release(release)
    folder = Path(release)
    if storage.is_remote(release):
        cache = Path(os.environ.get("TRAWL_CACHE") or Path.home() / ".cache" / "trawl")
        folder = cache / "releases" / hashlib.sha256(release.encode()).hexdigest()[:16]
        pull(release, folder)
    else:
        verify(release)
    model = load_pretrained(folder)
    return dict(evaluate_retrieval(model, load_tokenizer(folder), Corpus(corpus), count=count))
