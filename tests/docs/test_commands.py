"""Every command in the documentation runs, in the order in which a reader would give them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Later pages use what earlier ones made, as their first lines say.
PAGES = ("world.md", "build-a-corpus.md", "scale.md", "pretrain.md")
PAGES += ("use-a-checkpoint.md", "detector.md", "kernels.md", "operate/README.md")
PAGES += tuple(f"operate/{name}.md" for name in ("preflight", "watching", "runbook", "sizing"))
_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> str:
    """Return the shell commands of a page, one script."""
    return "\n".join(_FENCE.findall(page.read_text()))


def test_no_page_with_commands_is_left_out() -> None:
    found = (ROOT / "docs").rglob("*.md")
    pages = [str(page.relative_to(ROOT / "docs")) for page in found if commands(page)]
    assert sorted(pages) == sorted(PAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader goes through the pages."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run(name: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = folder / f"{Path(name).stem}.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            ["bash", "-euxo", "pipefail", "-c", commands(ROOT / "docs" / name)],
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        status = process.wait()
    # A page that failed half-way may have left a server behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert status == 0, said.read_text()[-6000:]


def test_the_readme_names_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", commands(ROOT / "README.md"), re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
