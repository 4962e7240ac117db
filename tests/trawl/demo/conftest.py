"""A small demo, driven once for all tests that look at what it made."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SMALL = (
    "web_scenes=60",
    "in_domain_scenes=48",
    "held_out_scenes=24",
    "pretrain_set=[stages.0.steps=8, stages.1.steps=8, checkpoint.every_steps=4, "
    "stages.0.batch.samples=16, stages.1.batch.samples=16, "
    "stages.0.batch.micro_batch=8, stages.1.batch.micro_batch=8]",
)


def demo_command(out: str | Path) -> list[str]:
    """Return the command of a small demo into `out`."""
    changes = [part for change in SMALL for part in ("--set", change)]
    return [sys.executable, "-m", "trawl", "demo", "--out", str(out), *changes]


@dataclass(frozen=True)
class Demo:
    """A demo that has ended, and what it printed."""

    out: Path
    printed: str


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """An undisturbed small demo."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(
        demo_command(out), capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"}
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return Demo(out, done.stdout)
