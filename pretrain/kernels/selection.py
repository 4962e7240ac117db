"""Which implementation of an operation runs: one table, by device and number format.

The first entry of an operation that can run is taken. A stage's key `kernels` names another one:
`override`. All implementations of an operation give the same numbers within the tolerance that
its tests state, so a machine without a GPU changes no result beyond it. `trawl doctor` prints it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from typing import TYPE_CHECKING

from trawl.errors import RequestError

if TYPE_CHECKING:
    import torch

HALVES = ("float16", "bfloat16")
FLOATS = ("float32", *HALVES)


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operation, and where it can run."""

    name: str
    devices: tuple[str, ...] = ()
    """Kinds of device, as torch names them; nothing: all."""
    numbers: tuple[str, ...] = ()
    """Number formats, as torch names them; nothing: all."""
    module: str | None = None
    """What must be installed."""
    proven: bool = False
    """Whether an installed one is still to be built or compared: `fused_adamw.obstacle` knows."""

    def obstacle(self, device: str, numbers: str, asked: bool = False) -> str | None:
        """Return why it cannot run on `device` in the format `numbers`, None where it can.

        asked: a recipe names it.
        """
        if self.numbers and numbers not in self.numbers:
            return f"{self.name} has no {numbers}"
        if self.module is not None and not _installed(self.module):
            return f"{self.name} needs {self.module}, which is not installed"
        if self.devices and device not in self.devices and not self._interpreted(device):
            return f"{self.name} needs {' or '.join(self.devices)}"
        if self.proven:
            from pretrain.optimizers.fused_adamw import obstacle

            return obstacle(self.name, device, asked)
        return None

    def _interpreted(self, device: str) -> bool:
        """Return whether Triton's interpreter stands in for a GPU in this process."""
        from pretrain.kernels.launching import interpreting

        return self.module == "triton" and device == "cpu" and interpreting()


PLAIN = Implementation("plain")
TRITON = Implementation("triton", ("cuda",), FLOATS, "triton")

TABLE: dict[str, tuple[Implementation, ...]] = {
    "dropout_residual_norm": (TRITON, PLAIN),
    "packed_attention": (
        Implementation("varlen", ("cuda",), HALVES, "torch.nn.attention.varlen"),
        TRITON,
        PLAIN,
    ),
    "region_embedding": (TRITON, PLAIN),
    # By chunks of words in plain torch: a fraction of the memory, for a tenth more time on a CPU.
    "masked_prediction": (TRITON, PLAIN, Implementation("chunked", (), FLOATS)),
    # The optimizer's step, on the device of its states: the CPU's if they are offloaded.
    "adamw": (
        Implementation("apex", ("cuda",), ("float32",), "amp_C", proven=True),
        Implementation("deepspeed", ("cuda",), ("float32",), "deepspeed", proven=True),
        Implementation("torch"),
        Implementation("deepspeed-cpu", ("cpu",), ("float32",), "deepspeed", proven=True),
    ),
}
"""The implementations of each operation, the preferred one first. The plain twin, or torch, runs
everywhere, so what stands behind it runs where a recipe names it."""

_overrides: dict[str, str] = {}


def check(wanted: Mapping[str, str]) -> None:
    """Raise ValueError if `wanted` names an operation or an implementation that there is not."""
    for operation, name in wanted.items():
        if operation not in TABLE:
            raise ValueError(f"no kernel {operation}; there are {', '.join(TABLE)}")
        names = [each.name for each in TABLE[operation]]
        if name not in names:
            raise ValueError(f"{operation} has no implementation {name}; take {', '.join(names)}")


def override(wanted: Mapping[str, str]) -> None:
    """From now on take what is `wanted`, by operation, in place of the first in the table."""
    check(wanted)
    _overrides.clear()
    _overrides.update(wanted)


def overrides() -> dict[str, str]:
    """Return what was last wanted in place of the table's first."""
    return dict(_overrides)


def chosen(
    operation: str,
    device: "torch.device",
    dtype: "torch.dtype",
    unable: Mapping[str, str] | None = None,
) -> str:
    """Return the name of the implementation that runs `operation` on `device` in `dtype`.

    unable: implementations that this very call cannot take, with what they lack. Raises
    RequestError where the one that the recipe names cannot run here.
    """
    numbers = str(dtype).removeprefix("torch.")
    if operation in _overrides:
        wanted = next(each for each in TABLE[operation] if each.name == _overrides[operation])
        problem = wanted.obstacle(device.type, numbers, True) or (unable or {}).get(wanted.name)
        if problem is not None:
            last = "torch" if operation == "adamw" else "plain"
            raise RequestError(f"kernels.{operation}: {problem}; leave the key out or take {last}")
        return wanted.name
    return _first(operation, device.type, numbers, unable or {})


def _first(operation: str, device: str, numbers: str, unable: Mapping[str, str]) -> str:
    """Return the first implementation in the table that can run; the plain one always can."""
    for each in TABLE[operation]:
        # The interpreter is for tests, which name what they want: it is never a machine's choice.
        here = not each.devices or device in each.devices
        if here and each.name not in unable and each.obstacle(device, numbers) is None:
            return each.name
    raise AssertionError(f"{operation} has no plain implementation")


@cache
def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def report() -> list[str]:
    """Return the table's lines for this machine: what runs where, and why nothing faster does."""
    import torch

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    lines = [f"{'kernel':24}{'device':8}{'numbers':10}{'runs':10}why"]
    for operation in TABLE:
        for device in devices:
            for numbers in FLOATS:
                name = _first(operation, device, numbers, {})
                why = reasons(operation, name, device, numbers)
                lines.append(f"{operation:24}{device:8}{numbers:10}{name:10}{why}")
    return lines


def reasons(operation: str, name: str, device: str, numbers: str) -> str:
    """Return why no implementation before the one called `name` in the table runs."""
    preferred = takewhile(lambda each: each.name != name, TABLE[operation])
    found = (each.obstacle(device, numbers) for each in preferred)
    return "; ".join(filter(None, found)) or "first choice"
