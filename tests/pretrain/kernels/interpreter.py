"""Checks that run in Triton's interpreter, which must be asked for before triton is imported.

So each runs in a process of its own: a test hands functions of its module to `interpreted`. They
may use anything of pytest and hypothesis. Numbers in the interpreter are numpy's, and it holds
bfloat16 as 16-bit integers, on which arithmetic is nonsense without an error: a kernel converts to
float32 right after each load, and takes float16 or float32 in its products there.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import pytest

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton, the extra gpu"
)
_SECONDS = 600


def interpreted(*checks: Callable[[], None]) -> None:
    """Run the `checks`, functions of modules, one after another with kernels interpreted."""
    names = [f"{check.__module__}:{check.__name__}" for check in checks]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *names],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout.split() == names  # each ran to its end


def _main() -> None:
    for name in sys.argv[1:]:
        module, function = name.split(":")
        getattr(import_module(module), function)()
        print(name)


if __name__ == "__main__":
    _main()
