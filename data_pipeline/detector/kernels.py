"""What `trawl doctor` says of the detector's kernels."""

from importlib.util import find_spec

from data_pipeline.detector.cuda_build import LIBRARY


def report() -> list[str]:
    """Return what pools and suppresses on this machine, and why nothing faster does."""
    import torch

    lines = [f"{'kernel':24}{'device':8}{'runs':10}why"]
    for operation, plain in (("roi_pool", "tables"), ("suppression", "words")):
        lines.append(f"{operation:24}{'cpu':8}{plain:10}the kernels need cuda")
        if torch.cuda.is_available():
            lines.append(f"{operation:24}{'cuda':8}{_on_gpu(operation)}")
    return lines


def _on_gpu(operation: str) -> str:
    if operation == "suppression" and LIBRARY.exists():
        return f"{'cuda-c++':10}built by make cuda-kernels"
    if find_spec("triton") is None:
        return f"{'nothing':10}triton is not installed: the extra gpu"
    built = "first choice" if operation == "roi_pool" else "cuda-c++ was not built"
    return f"{'triton':10}{built}"
