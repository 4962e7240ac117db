"""The figures in docs/scale.md are what the commands above them print."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_pipeline.cli import corpus

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
_PRINTED = re.compile(r"^```sh\ntrawl corpus (.*?)\n```\n+```text\n(.*?)^```$", re.M | re.S)


def test_all_three_sizes_are_worked_out() -> None:
    assert [found[0].split("--pairs ")[1].split()[0] for found in _PRINTED.findall(PAGE)] == [
        "1e7",
        "1e9",
        "1e10",
    ]


@pytest.mark.parametrize(("command", "printed"), _PRINTED.findall(PAGE))
def test_what_the_page_shows_is_what_the_command_prints(command: str, printed: str) -> None:
    done = CliRunner().invoke(corpus, shlex.split(command))
    assert done.exit_code == 0
    assert done.output == printed
