"""The demo, small: what it leaves; kills change nothing; S3 does as well as a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trawl.demo.conftest import Demo, demo_command
from trawl import storage

pytestmark = pytest.mark.slow


def test_the_summary_holds_every_figure(small_demo: Demo) -> None:
    summary = json.loads((small_demo.out / "summary.json").read_text())
    assert set(summary) >= {
        "seconds",
        "pairs",
        "detector",
        "retrieval",
        "manifest_sha256",
        "final_loss",
    }
    assert summary["pairs"]["precision"] >= 0.9
    assert summary["pairs"]["recall"] >= 0.9
    assert set(summary["retrieval"]) == {"out-of-domain", "in-domain"}
    for recalls in summary["retrieval"].values():
        assert set(recalls) == {f"{d}_r{n}" for d in ("t2i", "i2t") for n in (1, 5, 10)}
    assert "Trawl demo" in small_demo.printed
    assert f"{summary['pairs']['precision']:.3f}" in small_demo.printed


def test_a_demo_that_is_done_does_nothing_again(small_demo: Demo) -> None:
    before = (small_demo.out / "summary.json").read_bytes()
    written = (small_demo.out / "run" / "metrics.jsonl").stat().st_mtime_ns
    done = subprocess.run(demo_command(small_demo.out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (small_demo.out / "summary.json").read_bytes() == before
    assert (small_demo.out / "run" / "metrics.jsonl").stat().st_mtime_ns == written


def test_another_recipe_in_the_same_folder_is_refused(small_demo: Demo) -> None:
    command = [*demo_command(small_demo.out), "--set", "seed=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "choose another --out" in done.stderr


def _files(*patterns: str) -> Callable[[Path], int]:
    return lambda out: sum(1 for pattern in patterns for _ in out.glob(pattern))


# Moments to kill at, as (what to count, how many): in every part of the road, also mid-checkpoint.
_MOMENTS: list[tuple[Callable[[Path], int], int]] = [
    (_files("world/web/**/*"), 5),
    (_files("corpora/web/ledger/**/*"), 3),
    (_files("corpora/web/ledger/**/*"), 40),
    (_files("corpora/in-domain/ledger/**/*"), 2),
    (_files("run/checkpoints/out-of-domain/*"), 1),
    (_files("run/checkpoints/in-domain/*/COMPLETE"), 1),
]


def _processes_about(out: Path) -> list[int]:
    """Return the ids of running processes whose command line names `out`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if str(out).encode() in words:
                found.append(int(folder.name))
    return found


@pytest.mark.soak
def test_killed_anywhere_it_ends_with_the_same_corpus_and_the_same_loss(
    small_demo: Demo, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for count, wanted in _MOMENTS:
        process = subprocess.Popen(
            demo_command(out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and count(out) < wanted:
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(demo_command(out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    undisturbed = json.loads((small_demo.out / "summary.json").read_text())
    summary = json.loads((out / "summary.json").read_text())
    for key in ("manifest_sha256", "final_loss", "retrieval", "pairs", "detector"):
        assert summary[key] == undisturbed[key], key
    for weights in ("out-of-domain", "in-domain"):
        name = f"run/stages/{weights}/model.safetensors"
        assert storage.sha256_of(out / name) == storage.sha256_of(small_demo.out / name)
    assert _processes_about(out) == []


@pytest.mark.soak
def test_on_s3_it_ends_with_the_same_corpus_and_the_same_loss(
    small_demo: Demo, s3: str, tmp_path: Path
) -> None:
    out = f"{s3}/demo"
    command = [*demo_command(out), "--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    undisturbed = json.loads((small_demo.out / "summary.json").read_text())
    summary = storage.read_json(f"{out}/summary.json")
    for key in ("manifest_sha256", "final_loss", "retrieval", "pairs"):
        assert summary[key] == undisturbed[key], key
    pulled = tmp_path / "pulled"
    pull = [sys.executable, "-m", "trawl", "checkpoint", "pull"]
    subprocess.run([*pull, f"{out}/releases/in-domain", str(pulled)], check=True)
    name = "run/stages/in-domain/model.safetensors"
    assert storage.sha256_of(pulled / "model.safetensors") == storage.sha256_of(
        small_demo.out / name
    )
