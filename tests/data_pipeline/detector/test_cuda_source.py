"""The CUDA C++ of the detector: compiled for three GPUs, and its very lines run on CPU threads.

Maxima are equal bit for bit; RoIAlign agrees with torchvision within 1e-6 of the largest number in
float32, and within 2^-8, the last place, in bfloat16.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data_pipeline.detector import cuda_build, kernels, roi_pool_cuda, suppression_cuda
from data_pipeline.detector.roi_pool import align, bins, pool, pool_plain
from data_pipeline.detector.suppression import (
    Suppression,
    _bits,
    removals,
    suppress,
    suppress_by_loop,
)
from tests.data_pipeline.detector.test_roi_pool import SIDE, STRIDE, drawn, maps
from tests.data_pipeline.detector.test_suppression import crowded
from tests.pretrain.kernels.ahead_of_time import resources_of
from trawl.errors import WorkError

RULES = [Suppression(0.3), Suppression(0.5), Suppression(0.3, 1.0, True)]
TOOLKIT = Path(__file__).parents[3] / cuda_build.TOOLKIT
_ENTRIES = """
extern "C" void bits_on_threads(const float* boxes, std::uint64_t* bits, int count, int words,
                                float extra, double overlap, bool inclusive) {
  on_threads(count, (words + 31) / 32, [=] {
    trawl_overlap_bits(boxes, bits, count, words, extra, overlap, inclusive);
  });
}
extern "C" void walk_on_threads(const std::uint64_t* bits, const std::int64_t* order,
                                const std::int64_t* lengths, std::int8_t* kept, int classes,
                                int words) {
  on_threads(classes, 1, [=] { trawl_walk(bits, order, lengths, kept, classes, words); });
}
"""
_POOLING_ENTRIES = """
extern "C" void pool_on_threads(const void* cells, void* pooled, const std::int32_t* top,
                                const std::int32_t* bottom, const std::int32_t* left,
                                const std::int32_t* right, int regions, int width, int channels,
                                int side, bool narrow) {
  on_threads(regions * side * side, 1, [=] {
    if (narrow)
      trawl_maximum_bfloat16(static_cast<const Bfloat16*>(cells), static_cast<Bfloat16*>(pooled),
                             top, bottom, left, right, width, channels, side);
    else
      trawl_maximum_float32(static_cast<const float*>(cells), static_cast<float*>(pooled), top,
                            bottom, left, right, width, channels, side);
  });
}
extern "C" void align_on_threads(const void* cells, const float* boxes, void* pooled, int regions,
                                 int height, int width, int channels, int side, float scale,
                                 bool narrow) {
  on_threads(regions * side * side, 1, [=] {
    if (narrow)
      trawl_align_bfloat16(static_cast<const Bfloat16*>(cells), boxes,
                           static_cast<Bfloat16*>(pooled), height, width, channels, side, scale);
    else
      trawl_align_float32(static_cast<const float*>(cells), boxes, static_cast<float*>(pooled),
                          height, width, channels, side, scale);
  });
}
"""
_FUNCTIONS = {
    "suppression": {"trawl_overlap_bits", "trawl_walk"},
    "roi_pool": {
        f"trawl_{kind}_{number}"
        for kind in ("maximum", "align")
        for number in ("float32", "bfloat16")
    },
}


@pytest.fixture(scope="module")
def nvcc() -> Path:
    """NVIDIA's compiler, fetched from PyPI into build/ (15 seconds) unless it is there."""
    try:
        return cuda_build.compiler(TOOLKIT)
    except WorkError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", cuda_build.ARCHITECTURES)
@pytest.mark.parametrize("source", cuda_build.SOURCES, ids=lambda source: source.stem)
def test_the_source_is_compiled_and_spills_nothing(
    nvcc: Path, source: Path, architecture: int, tmp_path: Path
) -> None:
    binary = tmp_path / "source.cubin"
    cuda_build.compile_to(binary, source, nvcc, "-cubin", f"-arch=sm_{architecture}")
    taken = resources_of(binary)
    assert set(taken) == _FUNCTIONS[source.stem]
    for each in taken.values():
        assert each["LOCAL"] == each["STACK"] == 0
        assert each["REG"] <= 64


@pytest.mark.slow
def test_the_built_libraries_have_what_python_calls(
    nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules: list[Any] = [cuda_build, suppression_cuda, roi_pool_cuda]
    for module in modules:
        monkeypatch.setattr(module, "library", lambda name: tmp_path / f"{name}.so")
    built = cuda_build.build(nvcc, [90])
    assert sorted(built) == sorted(tmp_path.iterdir())
    for module in modules[1:]:
        assert module.loaded.__wrapped__() is not None  # names each function, and what it takes


def for_this_cpu(folder: Path, name: str, entries: str) -> ctypes.CDLL:
    """The kernels of cuda/NAME.cu compiled as C++, with `entries` that run them on threads."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    source = folder / "kernels.cpp"
    shim = Path(__file__).with_name("cuda_on_threads.h")
    # The block's shared memory is an array of the header's.
    kernels = cuda_build.library(name).with_suffix(".cu").read_text()
    kernels = kernels.replace("extern __shared__ std::uint64_t removed[];", "")
    source.write_text(f'#include "{shim}"\n{kernels}\n{entries}')
    options = ["-std=c++20", "-O1", "-ffp-contract=off", "-pthread", "-shared", "-fPIC"]
    subprocess.run(["g++", *options, "-o", str(folder / "k.so"), str(source)], check=True)
    return ctypes.CDLL(str(folder / "k.so"))


@pytest.fixture(scope="module")
def on_threads(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return for_this_cpu(tmp_path_factory.mktemp("suppression"), "suppression", _ENTRIES)


@pytest.fixture(scope="module")
def pooling(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return for_this_cpu(tmp_path_factory.mktemp("pooling"), "roi_pool", _POOLING_ENTRIES)


def address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_its_lines_give_what_the_loop_does(
    on_threads: ctypes.CDLL, count: int, rule: Suppression
) -> None:
    boxes, scores = crowded(count, count=count, classes=3)
    boxes = boxes.round(decimals=-1) if count == 65 else boxes  # many overlaps at the threshold
    words = -(-count // 64)
    bits = torch.zeros(count, words, dtype=torch.int64)
    settings = (ctypes.c_float(rule.extra), ctypes.c_double(rule.overlap), rule.inclusive)
    on_threads.bits_on_threads(address(boxes), address(bits), count, words, *settings)
    assert torch.equal(bits, _bits(removals(boxes, rule)))
    ranked, order = scores.sort(dim=0, descending=True, stable=True)
    order = order.contiguous()
    lengths = (scores >= 0.02).sum(dim=0)
    kept = torch.zeros(count, 3, dtype=torch.int8)
    parts = map(address, (bits, order, lengths, kept))
    on_threads.walk_on_threads(*parts, 3, words)
    found = torch.zeros_like(scores).scatter_(0, order, ranked * kept)
    loop = suppress_by_loop(boxes, scores, rule)
    assert torch.equal(found, torch.where(loop >= 0.02, loop, 0.0))


NUMBERS = [torch.float32, torch.bfloat16]
SHAPES = [(9, 12, 4), (1, 1, 8), (3, 40, 132)]


def grid(height: int, width: int, channels: int, number: torch.dtype) -> Tensor:
    """Maps [channels, H, W], whose channels lie last."""
    plain = maps(height * width, channels, height, width).to(number)
    return plain[None].contiguous(memory_format=torch.channels_last)[0]


def compare_pooling(
    pooling: ctypes.CDLL, cells: Tensor, boxes: Tensor, side: int, number: torch.dtype
) -> None:
    """Hold both ways to pool maps [channels, H, W] to their twins."""
    (channels, height, width), regions = cells.shape, len(boxes)
    rows = cells.permute(1, 2, 0).contiguous()
    pooled, aligned = (torch.full((regions, side, side, channels), -7.0).to(number) for _ in "ab")
    edges = bins(boxes, side, STRIDE, height, width)
    ends = map(address, (edges.top, edges.bottom, edges.left, edges.right))
    narrow = number is torch.bfloat16
    parts = (address(rows), address(pooled), *ends)
    pooling.pool_on_threads(*parts, regions, width, channels, side, narrow)
    assert torch.equal(pooled.permute(0, 3, 1, 2), pool_plain(cells, boxes, side, STRIDE))

    sizes = (regions, height, width, channels, side, ctypes.c_float(1 / STRIDE))
    pooling.align_on_threads(address(rows), address(boxes), address(aligned), *sizes, narrow)
    right = align(cells, boxes, side, STRIDE).float()
    apart = (aligned.permute(0, 3, 1, 2).float() - right).abs().max()
    bound = 2**-8 if narrow else 1e-6
    assert apart <= bound * max(1.0, float(right.abs().max()))


@pytest.mark.parametrize("number", NUMBERS, ids=str)
@pytest.mark.parametrize(("height", "width", "channels"), SHAPES)
def test_its_pooling_gives_what_the_twins_do(
    pooling: ctypes.CDLL, height: int, width: int, channels: int, number: torch.dtype
) -> None:
    cells, boxes = grid(height, width, channels, number), drawn(10, 7, height, width)
    compare_pooling(pooling, cells, boxes, 3, number)


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from(NUMBERS),
)
def test_its_pooling_is_the_twins_for_drawn_shapes(
    pooling: ctypes.CDLL,
    height: int,
    width: int,
    fours: int,
    regions: int,
    side: int,
    number: torch.dtype,
) -> None:
    cells = grid(height, width, 4 * fours, number)
    compare_pooling(pooling, cells, drawn(height, regions, height, width), side, number)


def test_a_compiler_that_fails_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "nvcc"
    broken.write_text("#!/bin/sh\necho suppression.cu: no such GPU >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(WorkError, match=r"cannot be compiled: suppression\.cu: no such GPU"):
        cuda_build.compile_to(tmp_path / "x", Path("suppression.cu"), broken)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or suppression_cuda.loaded() is None,
    reason="needs a CUDA device and the library of `make cuda-kernels`",
)
@pytest.mark.parametrize("count", [1, 65, 300])
def test_on_a_gpu_it_is_the_loop(count: int) -> None:
    boxes, scores = crowded(count, count=count)
    for rule in RULES:
        found = suppress(boxes.cuda(), scores.cuda(), rule, 0.0).cpu()
        assert torch.equal(found, suppress_by_loop(boxes, scores, rule))


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or roi_pool_cuda.loaded() is None,
    reason="needs a CUDA device and the library of `make cuda-kernels`",
)
@pytest.mark.parametrize("number", NUMBERS, ids=str)
def test_on_a_gpu_pooling_is_the_same_by_either(number: torch.dtype) -> None:
    cells, boxes = grid(38, 63, 1024, number).cuda(), drawn(12, 300, 38, 63).cuda()
    plain = pool(cells, boxes, SIDE, STRIDE), align(cells, boxes, SIDE, STRIDE).float()
    kernels.override({"roi_pool": "cuda-c++", "roi_align": "cuda-c++"}, "cuda")
    try:
        fast = pool(cells, boxes, SIDE, STRIDE), align(cells, boxes, SIDE, STRIDE).float()
    finally:
        kernels.override({}, "cuda")
    assert torch.equal(fast[0], plain[0])
    found, right = fast[1], plain[1]
    bound = (1e-5 if number is torch.float32 else 2**-8) * float(right.abs().max())
    assert (found - right).abs().max() <= bound
