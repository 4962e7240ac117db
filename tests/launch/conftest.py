"""One finished job that many tests look at, and a cluster that kubectl speaks to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pretrain.exit_codes import ExitCode
from tests.cluster import kubernetes_api
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


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[kubernetes_api.Server]:
    """A server that kubectl speaks to; it refuses what the published schemas do not have."""
    from tests.launch.kubernetes_schemas import fault

    home = tmp_path / "home"
    home.mkdir()
    with kubernetes_api.server(home) as running:
        running.refuse = fault
        monkeypatch.setenv("KUBECONFIG", str(home / "config"))
        monkeypatch.setenv("HOME", str(home))
        yield running
