"""The install step of the CUDA C++ kernels: fetch NVIDIA's compiler from PyPI, compile libraries.

`python -m data_pipeline.detector.cuda_build` does both; nothing needs it: without the libraries the
Triton kernels run. The compiler lies in a folder of its own, not in the environment: a toolkit of
300 MB beside torch's own CUDA libraries would be in the way of the next torch.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from trawl.errors import WorkError

SOURCES = tuple(sorted((Path(__file__).parent / "cuda").glob("*.cu")))
ARCHITECTURES = (80, 90, 100)
"""A100, H100 and H200, B200."""
TOOLKIT = Path("build/cuda")
_OPTIONS = ("-std=c++17", "-O3", "-fmad=false")


def compiler(toolkit: Path = TOOLKIT) -> Path:
    """Return nvcc of torch's CUDA version, fetched into `toolkit` unless it is there.

    Raises WorkError where it cannot be fetched, or torch has no CUDA.
    """
    if found := _found(toolkit):
        return found
    if torch.version.cuda is None:
        raise WorkError("this torch was built without CUDA; its kernels cannot run, nor be built")
    wanted = f"cuda-toolkit[nvcc,cccl,cudart,crt]=={torch.version.cuda}.*"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--target", str(toolkit), wanted], capture_output=True, text=True, check=False
    )
    if not (done.returncode == 0 and (found := _found(toolkit))):
        reason = (done.stderr.strip().splitlines() or ["no nvcc in it"])[-1]
        raise WorkError(f"{wanted} cannot be installed: {reason}")
    return found


def _found(toolkit: Path) -> Path | None:
    return next(iter(sorted(toolkit.glob("nvidia/*/bin/nvcc"))), None)


def library(name: str) -> Path:
    """Return where the library of cuda/NAME.cu lies once it is built."""
    return Path(__file__).parent / "cuda" / f"{name}.so"


def compile_to(target: Path, source: Path, nvcc: Path, *options: str) -> None:
    """Compile `source` to `target`; WorkError tells what nvcc said if it does not."""
    command = [str(nvcc), *_OPTIONS, *options, "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()[:1]
        raise WorkError(f"{source.name} cannot be compiled: {' '.join(said)}")


def build(nvcc: Path, architectures: Sequence[int] = ARCHITECTURES) -> list[Path]:
    """Compile the libraries of `suppression_cuda` and `roi_pool_cuda`; return where they lie."""
    codes = [
        option
        for number in architectures
        for option in ("-gencode", f"arch=compute_{number},code=sm_{number}")
    ]
    built = []
    for source in SOURCES:
        aside = library(source.stem).with_suffix(".so.part")
        compile_to(aside, source, nvcc, "-shared", "-Xcompiler", "-fPIC", *codes)
        built.append(aside.replace(library(source.stem)))
    return built


if __name__ == "__main__":
    for path in build(compiler()):
        print(f"built {path}")
