"""What `trawl doctor` says of the detector's kernels."""

from importlib.util import find_spec

from data_pipeline.detector.cuda_build import library


def report() -> list[str]:
    """Return what pools and suppresses on this machine, and why nothing faster does."""
    import torch

    lines = [f"{'kernel':24}{'device':8}{'runs':12}why"]
    plain_ways = {"roi_pool": "tables", "roi_align": "torchvision", "suppression": "words"}
    for operation, plain in plain_ways.items():
        lines.append(f"{operation:24}{'cpu':8}{plain:12}the kernels need cuda")
        if torch.cuda.is_available():
            lines.append(f"{operation:24}{'cuda':8}{_on_gpu(operation)}")
    return lines


def _on_gpu(operation: str) -> str:
    if operation == "suppression" and library(operation).exists():
        return f"{'cuda-c++':12}built by make cuda-kernels"
    pooling = "cuda-c++ was not built"
    if operation != "suppression" and library("roi_pool").exists():
        pooling = "cuda-c++ where --cuda-pooling asks for it: not measured yet"
    if operation == "roi_align":
        return f"{'torchvision':12}{pooling}"
    if find_spec("triton") is None:
        return f"{'nothing':12}triton is not installed: the extra gpu"
    return f"{'triton':12}{pooling}"
