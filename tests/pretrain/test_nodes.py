"""A run over several machines: each starts its own ranks, and they meet at the first one's port."""

from pathlib import Path

import pytest

from pretrain.exit_codes import ExitCode
from pretrain.local_launch import Meeting
from tests.cluster.ports import free_port
from tests.pretrain import runs
from tests.pretrain.conftest import Corpora
from trawl.errors import RequestError


def test_two_machines_with_a_rank_each_train_as_one_with_two(
    undisturbed: Path, corpora: Corpora, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    content = runs.recipe(corpora.web, corpora.clean, str(run))
    meet = f"127.0.0.1:{free_port()}"

    def start() -> list[runs.Process]:
        return [
            runs.Process(
                runs.write_recipe(tmp_path / f"{node}.yaml", content),
                *("--processes", "1", "--nodes", "2", "--node", str(node), "--meet", meet),
            )
            for node in (1, 0)
        ]

    second, first = start()
    first.wait_for(lambda: len(runs.lines(run)) >= 4)
    second.kill()
    assert first.wait() == ExitCode.FAILURE
    assert "rank 0 lost another rank" in first.said
    assert runs.ranks_of(tmp_path / "0.yaml") == runs.ranks_of(tmp_path / "1.yaml") == []

    assert [process.wait() for process in start()] == [0, 0], first.said
    assert runs.exact(run) == runs.exact(undisturbed)


@pytest.mark.parametrize(
    ("nodes", "node", "address", "words"),
    [(2, 2, "a:1", "--node 2"), (2, 0, "", "--meet"), (2, 1, "host", "HOST:PORT")],
)
def test_a_wrong_place_is_refused(nodes: int, node: int, address: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Meeting(nodes, node, address)


def test_an_address_of_version_6_loses_its_brackets() -> None:
    assert Meeting(2, 1, "[fe80::1]:29500").options()[-3:] == [
        "fe80::1",
        "--master-port",
        "29500",
    ]
