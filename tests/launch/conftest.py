"""One finished job that many tests look at."""

from pathlib import Path

import pytest

from pretrain.exit_codes import ExitCode
from tests.launch import finished
from tests.pretrain import runs, tiny_corpus


@pytest.fixture(scope="session")
def done_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job whose training of two stages on two ranks is done; its run is beside."""
    folder = tmp_path_factory.mktemp("done")
    web = tiny_corpus.write(folder / "web", "web", 48)
    content = runs.recipe(web, web, str(folder / "run"))
    content["publish"]["uri"] = str(folder / "releases")
    (folder / "jobs").mkdir()
    assert finished.attempt(folder / "jobs" / "tiny", content) == ExitCode.DONE
    return folder / "jobs" / "tiny"
