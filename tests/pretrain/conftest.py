"""Fixtures of the trainer's tests: one undisturbed run that many of them look at."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pretrain import forked, runs, tiny_corpus


@dataclass(frozen=True)
class Corpora:
    web: str
    clean: str


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    folder = tmp_path_factory.mktemp("corpora")
    return Corpora(
        tiny_corpus.write(folder / "web", "web", 48),
        tiny_corpus.write(folder / "clean", "clean", 32),
    )


@pytest.fixture(scope="session")
def undisturbed(corpora: Corpora, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two stages on two ranks that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    content = runs.recipe(corpora.web, corpora.clean, str(folder / "run"))
    content["publish"]["uri"] = str(folder / "releases")
    forked.run(runs.write_recipe(folder / "r.yaml", content), 2)
    return folder / "run"
