"""What every launch of a Triton kernel has in common, and whether there is a Triton to launch."""

from functools import cache
from importlib.util import find_spec

PINNED = {"enable_fp_fusion": True}
"""Options of every launch. Left out, whether a * b + c rounds once or twice would follow an
environment variable, whose default flips in Triton 3.10."""


@cache
def installed() -> bool:
    """Return whether triton is there: the extra "gpu"."""
    return find_spec("triton") is not None


def interpreting() -> bool:
    """Return whether kernels run in Triton's interpreter, on a CPU; tests alone ask for that."""
    if not installed():
        return False
    from triton import knobs

    return bool(knobs.runtime.interpret)
