"""Suppression by the CUDA C++ kernels of cuda/suppression.cu, where `cuda_build` has built them.

The twins are `suppression.removals` with `suppression._walk_together`, and the Triton kernel.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from data_pipeline.detector.cuda_build import library


@cache
def loaded() -> ctypes.CDLL | None:
    """Return the built library, None where it was not built."""
    path = library("suppression")
    if not path.exists():
        return None
    found = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    real = (ctypes.c_float, ctypes.c_double, ctypes.c_bool)
    found.trawl_suppress.argtypes = [*[pointer] * 5, number, number, *real, pointer]
    return found


def walk_by_cuda(
    boxes: Tensor, order: Tensor, lengths: Tensor, overlap: float, extra: float, inclusive: bool
) -> Tensor:
    """Return which boxes of each class survive: bool [boxes, classes], by rank.

    Boxes float32 [boxes, 4], order int64 [boxes, classes]: boxes by falling score, of which the
    first `lengths` int64 [classes] enter. Raises RuntimeError where CUDA refuses the launch.
    """
    found = loaded()
    assert found is not None
    count, classes = order.shape
    kept = torch.zeros(count, classes, dtype=torch.int8, device=boxes.device)
    if not (count and classes):
        return kept.bool()
    words = -(-count // 64)
    bits = torch.empty(count, words, dtype=torch.int64, device=boxes.device)
    parts = [boxes.contiguous(), order.contiguous(), lengths.contiguous(), bits, kept]
    with torch.cuda.device(boxes.device):
        stream = torch.cuda.current_stream().cuda_stream
        addresses = [part.data_ptr() for part in parts]
        error = found.trawl_suppress(*addresses, count, classes, extra, overlap, inclusive, stream)
    if error:
        raise RuntimeError(f"suppression in CUDA C++: error {error} of CUDA")
    return kept.bool()
