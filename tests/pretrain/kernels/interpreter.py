"""Checks that run in Triton's interpreter, which must be asked for before triton is imported.

So each runs in a process of its own: a test hands functions of its module to `interpreted`. They
may use anything of pytest and hypothesis. Numbers in the interpreter are numpy's, and it holds
bfloat16 as 16-bit integers, on which arithmetic is nonsense without an error: a kernel converts to
float32 right after each load, and takes float16 or float32 in its products there. It also cuts
float32 off to bfloat16 where every GPU rounds to the nearest, so here it is made to round.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton, the extra gpu"
)
_SECONDS = 600


def interpreted(*checks: Callable[..., None], of: Sequence[str] = ()) -> None:
    """Run the `checks`, functions of modules, one after another with kernels interpreted.

    of: what each is called with.
    """
    names = [":".join((check.__module__, check.__name__, *of)) for check in checks]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *names],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout.splitlines() == names  # each ran to its end


def _round_to_bfloat16() -> None:
    """Make the interpreter convert float32 to bfloat16 as GPUs do: to the nearest, ties to even."""
    import triton.language as tl
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def rounded(numbers: Any, source: Any, target: Any, mode: Any) -> Any:
        if source == tl.float32 and target == tl.bfloat16:
            values = torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32))
            return values.bfloat16().view(torch.uint16).numpy()
        return convert(numbers, source, target, mode)

    interpreter._convert_float = rounded


def _main() -> None:
    _round_to_bfloat16()
    for name in sys.argv[1:]:
        module, function, *of = name.split(":")
        getattr(import_module(module), function)(*of)
        print(name)


if __name__ == "__main__":
    _main()
