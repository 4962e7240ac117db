"""Which implementation pools and suppresses on a GPU: one table, printed by `trawl doctor`.

The first entry of an operation that can run is taken; a recipe's key `kernels` names another one:
`override`. On a CPU each operation has one fast way of its own.
"""

from collections.abc import Mapping
from importlib.util import find_spec

from data_pipeline.detector.cuda_build import library
from trawl.errors import RequestError

# CUDA C++ comes first where it does less than the other, else once it was measured to be faster.
ON_GPU = {
    "roi_pool": ("triton", "cuda-c++"),
    "roi_align": ("torchvision", "cuda-c++"),
    "suppression": ("cuda-c++", "triton"),
}
ON_CPU = {"roi_pool": "tables", "roi_align": "torchvision", "suppression": "words"}
_SOURCES = {"roi_pool": "roi_pool", "roi_align": "roi_pool", "suppression": "suppression"}

_overrides: dict[str, str] = {}


def check(wanted: Mapping[str, str]) -> None:
    """Raise ValueError if `wanted` names an operation or an implementation that there is not."""
    for operation, name in wanted.items():
        if operation not in ON_GPU:
            raise ValueError(f"no kernel {operation}; there are {', '.join(ON_GPU)}")
        if name not in ON_GPU[operation]:
            there = ", ".join(ON_GPU[operation])
            raise ValueError(f"{operation} has no implementation {name}; take {there}")


def override(wanted: Mapping[str, str], device: str) -> None:
    """From now on take what is `wanted`, by operation, on `device`, as torch names it.

    Raises RequestError for what cannot run there.
    """
    check(wanted)
    for operation, name in wanted.items():
        problem = _obstacle(operation, name) if device.startswith("cuda") else "it needs cuda"
        if problem is not None:
            raise RequestError(f"kernels.{operation}: {name}: {problem}; leave the key out")
    _overrides.clear()
    _overrides.update(wanted)


def chosen(operation: str) -> str:
    """Return the name of the implementation that runs `operation` on a GPU.

    Raises RequestError where none can.
    """
    if operation in _overrides:
        return _overrides[operation]
    for name in ON_GPU[operation]:
        if _obstacle(operation, name) is None:
            return name
    raise RequestError(f"{operation} on a GPU needs triton: install the extra gpu")


def _obstacle(operation: str, name: str) -> str | None:
    """Return why an implementation cannot run on a GPU here, None where it can."""
    if name == "cuda-c++" and not library(_SOURCES[operation]).exists():
        return "not built; run make cuda-kernels"
    if name == "triton" and find_spec("triton") is None:
        return "triton is not installed: the extra gpu"
    return None


def report() -> list[str]:
    """Return what pools and suppresses on this machine, and why nothing else does."""
    import torch

    lines = [f"{'kernel':24}{'device':8}{'runs':12}why"]
    for operation, plain in ON_CPU.items():
        lines.append(f"{operation:24}{'cpu':8}{plain:12}the kernels need cuda")
        if torch.cuda.is_available():
            lines.append(f"{operation:24}{'cuda':8}{_on_gpu(operation)}")
    return lines


def _on_gpu(operation: str) -> str:
    found = {name: _obstacle(operation, name) for name in ON_GPU[operation]}
    runs = next((name for name, problem in found.items() if problem is None), "nothing")
    others = (
        f"{name}: {problem or 'where kernels names it'}"
        for name, problem in found.items()
        if name != runs
    )
    return f"{runs:12}{'; '.join(others)}"
