"""A secret that is planted reaches the work, and nothing else that anyone can read."""

import secrets
import shutil
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import launch
from launch.explain import explanation
from launch.jobs import folder_of
from launch.state import state_of
from tests.cluster import hosts as cluster
from tests.launch.test_dashboard import served
from tests.launch.watching import told, wait_until
from tests.pretrain import runs, tiny_corpus

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


class ProcessList:
    """Looks at all command lines of the machine, again and again, as `ps` would."""

    def __init__(self, wanted: list[bytes], recipe: Path) -> None:
        self.wanted, self.recipe = wanted, str(recipe).encode()
        self.found: list[bytes] = []
        self.environments = b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @contextmanager
    def watched(self) -> Iterator["ProcessList"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    words = (process / "cmdline").read_bytes()
                    if self.recipe in words and not self.environments:
                        self.environments = self._environment(process)
                except OSError:
                    continue
                self.found += [words for secret in self.wanted if secret in words]

    def _environment(self, process: Path) -> bytes:
        """What a process of the work itself finds, to know that the secret came to it."""
        environment = (process / "environ").read_bytes()
        return environment if b"PLANTED_KEY=" in environment else b""


def holding(folder: Path, wanted: list[bytes]) -> list[Path]:
    """The files below a folder that hold one of the secrets."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(secret in path.read_bytes() for secret in wanted)]


@pytest.mark.parametrize("backend", ["local", "ssh"])
def test_a_planted_secret_is_in_nothing_that_can_be_read(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "ssh" and cluster.missing():
        pytest.skip(f"no {', '.join(cluster.missing())} here")
    in_file, exported = f"file-{secrets.token_hex(8)}", f"env-{secrets.token_hex(8)}"
    wanted = [in_file.encode(), exported.encode()]
    monkeypatch.setenv("EXPORTED_KEY", exported)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "key").write_text(f"{in_file}\n")
    seen = tmp_path / "seen"  # everything that anyone writes
    seen.mkdir()
    web = tiny_corpus.write(seen / "web", "web", 24)
    content = runs.recipe(web, web, str(seen / "run"))
    content["stages"] = content["stages"][:1]
    content["stages"][0]["steps"] = 100_000
    recipe = runs.write_recipe(seen / "r.yaml", content)
    job_file, state = seen / "job.yaml", seen / "jobs"
    job_file.write_text(
        f"name: job\nrun: {{pretrain: {recipe}}}\n"
        f"secrets: [{{variable: PLANTED_KEY, file: {hidden}/key}}]\n"
    )
    said: list[str] = []

    def trawl(verb: str, *options: str) -> None:
        done = CliRunner().invoke(launch, [verb, str(job_file), "--state", str(state), *options])
        assert done.exit_code == 0, (done.output, done.exception)
        said.append(done.output)

    folder = state / "job"
    with contextmanager(hosts_of)(backend, tmp_path / "hosts") as place:
        with ProcessList(wanted, recipe).watched() as processes:
            trawl("submit", "--dry-run", *place)
            trawl("submit", *place)
            wait_until(lambda: len(runs.lines(seen / "run")) > 2, folder)
            trawl("status")
            trawl("status", "--json")
            with served(state) as server:
                for page in ("", "api/jobs", "metrics"):
                    with urllib.request.urlopen(f"{server.address}{page}") as answer:
                        said.append(answer.read().decode())
            trawl("stop")
            wait_until(lambda: bool(processes.environments), folder)
    assert state_of(folder).now == "preempted", told(folder)
    trawl("logs")
    trawl("submit", "--diff", *place)
    said.append(explanation(folder_of(str(job_file), state)))
    assert f"PLANTED_KEY={in_file}".encode() in processes.environments
    assert holding(hidden, wanted) == [hidden / "key"]  # the search finds what there is to find
    assert holding(seen, wanted) == []
    assert processes.found == []
    assert not [text for text in said if in_file in text or exported in text]
    shutil.rmtree(seen)


def hosts_of(backend: str, folder: Path) -> Iterator[list[str]]:
    """Yield the options of `submit` for the place."""
    if backend == "local":
        yield ["--on", "local"]
        return
    folder.mkdir()
    with cluster.hosts(folder, 1) as running:
        changes = {
            "python": sys.executable,
            "folder": ROOT,
            "ssh.hosts": f"[{', '.join(running.addresses)}]",
            "ssh.options": f"[{', '.join(running.options)}]",
            "ssh.interface": "eth0",
            "setup": "[export OMP_NUM_THREADS=1]",
        }
        sets = [f"place.{key}={value}" for key, value in changes.items()]
        yield ["--on", "ssh", *(word for change in sets for word in ("--set", change))]
