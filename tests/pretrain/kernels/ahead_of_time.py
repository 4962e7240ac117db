"""Triton kernels compiled for GPUs that are not there, and what the binaries take of them."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = (80, 90, 100)
"""A100, H100 and H200, B200. Triton takes wgmma on 90 and tcgen05 on 100 by itself."""

TENSOR_CORES = {80: "mma.sync", 90: "wgmma", 100: "tcgen05.mma"}
"""The instruction that a product of matrices becomes, in PTX."""


@dataclass(frozen=True)
class Budget:
    """The most that a kernel may take; nothing is ever spilled."""

    registers: int = 255
    """Of a thread. 64: 32 warps fit on a multiprocessor; 128: 16; 255: 8."""
    shared: int = 48 * 1024
    """Bytes of shared memory of a program; a multiprocessor of sm_80 has 164 KiB."""
    stack: int = 0
    """Bytes of a thread's stack."""


def built(
    kernel: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    num_warps: int,
    target: int = 90,
    **options: Any,
) -> Any:
    """Return `kernel` compiled for the compute capability `target`, down to the binary.

    types: of its arguments, as "*bf16" or "i32"; constants: values of its constexpr ones. Pointers
    and sizes count as divisible by 16 where their type ends in "!".
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pretrain.kernels.launching import PINNED

    signature = {**types, **dict.fromkeys(constants, "constexpr")}
    ordered = {name: signature[name].rstrip("!") for name in kernel.arg_names}
    aligned = {
        (number,): [["tt.divisibility", 16]]
        for number, name in enumerate(kernel.arg_names)
        if signature[name].endswith("!")
    }
    source = ASTSource(kernel, ordered, constants, aligned)
    made = {"num_warps": num_warps, **PINNED, **options}
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options=made)


def resources_of(binary: Path) -> dict[str, dict[str, int]]:
    """Return what each function of a cubin takes by name, say REG and LOCAL, by NVIDIA's tool."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    told = subprocess.run(
        [tool, "--dump-resource-usage", binary], capture_output=True, text=True, check=True
    ).stdout
    functions = re.findall(r"Function (\w+):\s*(.*)", told)
    return {
        name: {kind: int(count) for kind, count in re.findall(r"(\w+):(\d+)", taken)}
        for name, taken in functions
    }


def resources(made: Any, folder: Path) -> dict[str, int]:
    """Return what a compiled Triton kernel takes by name."""
    binary = folder / "kernel.cubin"
    binary.write_bytes(made.asm["cubin"])
    (taken,) = resources_of(binary).values()
    return taken


def assert_within(made: Any, budget: Budget, folder: Path) -> None:
    """Fail if the compiled kernel spills registers or takes more than its budget."""
    taken = resources(made, folder)
    assert taken["LOCAL"] == 0, taken
    assert taken["STACK"] <= budget.stack, taken
    assert taken["REG"] <= budget.registers, taken
    assert made.metadata.shared <= budget.shared, made.metadata.shared


def assert_tensor_cores(made: Any, target: int) -> None:
    """Fail if the products of the compiled kernel do not run on the tensor cores of `target`."""
    assert TENSOR_CORES[target] in made.asm["ptx"], f"no {TENSOR_CORES[target]} for sm_{target}"
