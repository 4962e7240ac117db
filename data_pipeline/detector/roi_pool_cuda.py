"""RoI pooling by the CUDA C++ kernels of cuda/roi_pool.cu, where `cuda_build` has built them.

The twins are `roi_pool.pool_plain`, the Triton kernel of `roi_pool_kernel`, and torchvision's
roi_align. Maps are such as `roi_pool.fits` says. They run where a recipe names them: whether they
are faster was not measured yet.
"""

import ctypes
from functools import cache

import torch
from torch import Tensor

from data_pipeline.detector.cuda_build import library
from data_pipeline.detector.roi_pool import Bins


@cache
def loaded() -> ctypes.CDLL | None:
    """Return the built library, None where it was not built."""
    path = library("roi_pool")
    if not path.exists():
        return None
    found = ctypes.CDLL(str(path))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    found.trawl_roi_pool.argtypes = [*[pointer] * 6, *[number] * 4, ctypes.c_bool, pointer]
    scale = (ctypes.c_float, ctypes.c_bool)
    found.trawl_roi_align.argtypes = [*[pointer] * 3, *[number] * 5, *scale, pointer]
    return found


def pool_by_cuda(cells: Tensor, edges: Bins) -> Tensor:
    """Pool one image as `pool_by_kernel` does: [H, W, channels] -> [regions, channels, side, side].

    Raises RuntimeError where CUDA refuses the launch.
    """
    regions, side = edges.top.shape
    pooled = cells.new_empty(regions, side, side, cells.shape[2])
    ends = [each.contiguous() for each in (edges.top, edges.bottom, edges.left, edges.right)]
    sizes = (regions, cells.shape[1], cells.shape[2], side)
    _launch("trawl_roi_pool", [cells.contiguous(), pooled, *ends], sizes)
    return pooled.permute(0, 3, 1, 2)


def align_by_cuda(cells: Tensor, boxes: Tensor, side: int, stride: int) -> Tensor:
    """Pool boxes float32 [regions, 4] as `roi_pool.align` does, from [H, W, channels].

    Raises RuntimeError where CUDA refuses the launch.
    """
    height, width, channels = cells.shape
    pooled = cells.new_empty(len(boxes), side, side, channels)
    sizes = (len(boxes), height, width, channels, side, 1.0 / stride)
    _launch("trawl_roi_align", [cells.contiguous(), boxes.float().contiguous(), pooled], sizes)
    return pooled.permute(0, 3, 1, 2)


def _launch(name: str, parts: list[Tensor], sizes: tuple[float, ...]) -> None:
    """Launch a function of the library, if there is a region, on the stream that is current."""
    found, cells = loaded(), parts[0]
    assert found is not None
    if sizes[0] == 0:
        return
    with torch.cuda.device(cells.device):
        stream = torch.cuda.current_stream().cuda_stream
        addresses = [part.data_ptr() for part in parts]
        narrow = cells.dtype == torch.bfloat16
        error = getattr(found, name)(*addresses, *sizes, narrow, stream)
    if error:
        raise RuntimeError(f"RoI pooling in CUDA C++: error {error} of CUDA")
