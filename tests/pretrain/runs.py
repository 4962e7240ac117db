"""Starting real runs of the trainer for tests, and looking at them while they go."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pretrain.checkpoints.pull import verify
from tests.pretrain import tiny_corpus

PATIENCE = 900.0
# What a repetition of a step must give again, bit for bit.
EXACT = ("stage", "step", "samples", "loss", "losses", "lr", "grad_norm")


def recipe(web: str, clean: str, run: str) -> dict[str, Any]:
    """A recipe of two short stages of a very small Oscar."""
    stage = {"objectives": {"mlm": 1.0, "contrast": 1.0}, "batch": {"samples": 8, "micro_batch": 4}}
    return {
        "name": "tiny",
        "model": {
            "size": "tiny",
            "config": {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "img_feature_dim": tiny_corpus.FEATURES + 6,
                "max_seq_length": 24,
                "max_regions": 6,
            },
        },
        "tokenizer": {"vocabulary": 128},
        "stages": [
            {
                "name": "out",
                "data": [{"corpus": web}],
                "steps": 8,
                "optimizer": {"lr": 1e-3, "warmup_steps": 3},
                **stage,
            },
            {
                "name": "in",
                "data": [{"corpus": clean, "weight": 3.0}, {"corpus": web}],
                "steps": 6,
                "optimizer": {"lr": 5e-4},
                **stage,
            },
        ],
        "checkpoint": {"uri": run, "every_steps": 3, "keep_last": 2},
        "publish": {"licence": "cc0-1.0"},
    }


def write_recipe(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")
    return path


class Process:
    """One `trawl pretrain run` in a process group of its own."""

    def __init__(self, path: Path, *options: str, environment: Mapping[str, str] | None = None):
        command = [sys.executable, "-m", "trawl", "pretrain", "run", str(path), *options]
        self._errors = path.with_suffix(f".{time.monotonic_ns()}.err")
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            )

    @property
    def said(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    def wait(self) -> int:
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Wait until `seen` says yes; fails if the run ends before that."""
        deadline = time.monotonic() + PATIENCE
        while not seen():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.002)

    def kill(self) -> None:
        """Kill the whole process group, as by `kill -9 -PGID`."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def ranks_of(path: Path) -> list[int]:
    """The processes whose command line names the recipe at `path`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(path).encode() in words:
            found.append(int(process.name))
    return found


def lines(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    whole = [
        line for line in path.read_text(encoding="utf-8").splitlines(True) if line[-1:] == "\n"
    ]
    return [json.loads(line) for line in whole]


def exact(run: Path) -> list[dict[str, Any]]:
    return [{name: line[name] for name in EXACT} for line in lines(run)]


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    text = (run / "events.jsonl").read_text(encoding="utf-8")
    return [event for event in map(json.loads, text.splitlines()) if event["kind"] == kind]


def release(uri: str | Path) -> dict[str, Any]:
    """What a repetition of a run must publish again: all but the version of the code, which a
    commit changes under a test that runs for minutes, and the hashes of what names it."""
    content = verify(str(uri))
    files = {name: file for name, file in content["files"].items() if name != "README.md"}
    kept = ("recipe_sha256", "corpora", "name", "stage", "step")
    return {"files": files, **{key: content[key] for key in kept}}
