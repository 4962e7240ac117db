"""The CUDA C++ of suppression: compiled for three GPUs, and its very lines run on CPU threads."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_pipeline.detector import cuda_build
from data_pipeline.detector.suppression import (
    Suppression,
    _bits,
    removals,
    suppress,
    suppress_by_loop,
)
from data_pipeline.detector.suppression_cuda import library
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


@pytest.fixture(scope="module")
def nvcc() -> Path:
    """NVIDIA's compiler, fetched from PyPI into build/ (15 seconds) unless it is there."""
    try:
        return cuda_build.compiler(TOOLKIT)
    except WorkError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", cuda_build.ARCHITECTURES)
def test_the_source_is_compiled_and_spills_nothing(
    nvcc: Path, architecture: int, tmp_path: Path
) -> None:
    binary = tmp_path / "suppression.cubin"
    cuda_build.compile_to(binary, nvcc, "-cubin", f"-arch=sm_{architecture}")
    taken = resources_of(binary)
    assert set(taken) == {"trawl_overlap_bits", "trawl_walk"}
    for each in taken.values():
        assert each["LOCAL"] == each["STACK"] == 0
        assert each["REG"] <= 64


@pytest.fixture(scope="module")
def on_threads(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels compiled as C++ for this CPU."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("threads")
    source = folder / "kernels.cpp"
    shim = Path(__file__).with_name("cuda_on_threads.h")
    # The block's shared memory is an array of the header's.
    kernels = cuda_build.SOURCE.read_text()
    kernels = kernels.replace("extern __shared__ std::uint64_t removed[];", "")
    source.write_text(f'#include "{shim}"\n{kernels}\n{_ENTRIES}')
    options = ["-std=c++20", "-O1", "-ffp-contract=off", "-pthread", "-shared", "-fPIC"]
    subprocess.run(["g++", *options, "-o", str(folder / "k.so"), str(source)], check=True)
    return ctypes.CDLL(str(folder / "k.so"))


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


def test_a_compiler_that_fails_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "nvcc"
    broken.write_text("#!/bin/sh\necho suppression.cu: no such GPU >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(WorkError, match=r"cannot be compiled: suppression\.cu: no such GPU"):
        cuda_build.compile_to(tmp_path / "x", broken)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or library() is None,
    reason="needs a CUDA device and the library of `make cuda-kernels`",
)
@pytest.mark.parametrize("count", [1, 65, 300])
def test_on_a_gpu_it_is_the_loop(count: int) -> None:
    boxes, scores = crowded(count, count=count)
    for rule in RULES:
        found = suppress(boxes.cuda(), scores.cuda(), rule, 0.0).cpu()
        assert torch.equal(found, suppress_by_loop(boxes, scores, rule))
