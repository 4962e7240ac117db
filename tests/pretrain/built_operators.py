"""DeepSpeed's operator for CPUs, compiled once in a checkout: a minute the first time."""

import os
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "torch_extensions"
ENVIRONMENT = {"TORCH_EXTENSIONS_DIR": str(FOLDER)}


@cache
def obstacle() -> str | None:
    """Return why the operator cannot be had here, None after it was built and found equal."""
    from pretrain.optimizers import fused_adamw

    os.environ.update(ENVIRONMENT)
    return fused_adamw.obstacle("deepspeed-cpu", "cpu", asked=True)
