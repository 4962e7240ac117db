"""Corpus builds on a real Slurm of two nodes: as one Ray cluster, and as an array of tasks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.corpus.manifest import manifest_sha256
from launch import attempts, slurm
from launch.job import Work
from tests.cluster.ports import free_ports
from tests.cluster.slurm import Slurm, missing
from tests.cluster.slurm import slurm as running_slurm
from tests.data_pipeline import builds
from tests.launch.slurm_jobs import ROOT, job, wait_for_end
from tests.launch.watching import told, wait_until
from tests.trawl.demo.small_web import small_web

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())} here")
PLACE = {"nodes": 2, "cpus": 1, "setup": [f"export PYTHONPATH={ROOT}"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    # The path of a socket has at most 107 bytes.
    with running_slurm(tmp_path_factory.mktemp("s")) as running:
        yield running


@pytest.fixture
def here(cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    for name, value in (cluster.environment | {"OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(name, value)
    return cluster


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The manifest's hash of a build on this machine alone."""
    out = tmp_path_factory.mktemp("alone") / "out"
    builds.trawl_corpus(*builds.warc_build(str(out), small_web() / "warc" / "07.warc.gz"))
    return manifest_sha256(str(out))


def work(out: Path) -> Work:
    arguments = builds.warc_build(str(out), small_web() / "warc" / "07.warc.gz")
    changes = [word for word in arguments if "=" in word and not word.startswith("compute.cpus")]
    return Work(corpus="web-demo", changes=[*changes, f"out={out}"])


def units(out: Path, phase: str) -> int:
    return len(list((out / "ledger" / phase).glob("*.json")))


def node_of(here: Slurm, task: str) -> str:
    return here.run("squeue", "--noheader", "--format=%N", f"--jobs={task}").strip()


def test_an_array_builds_though_the_machine_that_leads_it_dies(
    here: Slurm, alone: str, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", tmp_path / "job"
    asked = job("array", work(out), port=free_ports(1)[0], slurm={"array": True}, **PLACE)
    slurm.submit(asked, folder)
    number = slurm.number_of(folder)
    wait_until(lambda: units(out, "download") > 0, folder)
    first = attempts.beginning(folder, 1)
    node = node_of(here, f"{number}_{first['task']}")
    here.kill_node(node)
    try:
        assert wait_for_end(folder) == "done", told(folder)
    finally:
        here.start_node(node)
    assert [each.cause for each in attempts.history(folder)] == ["bad-node", "done"]
    assert attempts.beginning(folder, 2)["task"] != first["task"]
    assert manifest_sha256(str(out)) == alone
