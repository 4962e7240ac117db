"""A second device made of CPU memory, for the one fault of GPU code that no CPU shows by itself.

Inside `pretended()` tensors can be made on, and moved to, the device `PRETENDED`. Their numbers are
computed by the CPU; but an operation on tensors of both devices fails, as it does on a GPU. What a
GPU lets pass passes here too: single numbers, and indices, of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# torch's own device without memory: autograd takes it anywhere, and nothing computes on it.
PRETENDED = torch.device("meta")

_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class Pretended(Tensor):
    """A tensor that says it lies on the device, and holds its numbers in `inner` on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Pretended:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=PRETENDED,
        )
        made.inner = inner
        return made

    def __repr__(self, **unused: Any) -> str:
        return f"Pretended({self.inner!r})"

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        return _run(function, *_by_name(function, arguments, named or {}))


class _Factories(TorchDispatchMode):
    """Makes tensors on the device for what asks for them there."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        arguments, named = _by_name(function, arguments, named or {})
        there = named.get("device") == PRETENDED
        if there or any(isinstance(leaf, Pretended) for leaf in tree_leaves((arguments, named))):
            return _run(function, arguments, named)
        return function(*arguments, **named)


class _Literals(TorchFunctionMode):
    """Takes numbers of Python to the device over the CPU; torch would leave them out."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        named = dict(named or {})
        if function is torch.tensor and named.get("device") == PRETENDED:
            named["device"] = "cpu"
            return function(*arguments, **named).to(PRETENDED)
        if function is Tensor.new_tensor and isinstance(arguments[0], Pretended):
            named.setdefault("dtype", arguments[0].dtype)
            return torch.tensor(*arguments[1:], **named).to(PRETENDED)
        if function is Tensor.tolist and isinstance(arguments[0], Pretended):
            return arguments[0].inner.tolist()
        return function(*arguments, **named)


def _run(function: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """Compute on the CPU; the result lies where it would after the same call with a GPU."""
    name = function._schema.name
    tensors = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, Tensor)]
    moved = named.get("device")
    if moved is None and name not in (*_INDEXING, "aten::copy_"):
        strangers = [t for t in tensors if not isinstance(t, Pretended) and t.ndim]
        if strangers and len(strangers) < len(tensors):
            raise RuntimeError(f"{name}: tensors on the CPU and on {PRETENDED}: {strangers[0]!r}")
    if moved == PRETENDED:
        named = {**named, "device": torch.device("cpu")}
    plain = tree_map(_inner, (arguments, named))
    found = function(*plain[0], **plain[1])
    if moved is not None and moved != PRETENDED:
        return found
    own = arguments[0] if arguments and isinstance(arguments[0], Pretended) else None
    if own is not None and found is own.inner:  # in place
        return own
    return tree_map(_outer, found)


def _by_name(function: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments with the device, and all that follows it, by name."""
    names = [each.name for each in function._schema.arguments]
    first = names.index("device") if "device" in names else len(names)
    return arguments[:first], {**dict(zip(names[first:], arguments[first:], strict=False)), **named}


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Pretended) else value


def _outer(value: Any) -> Any:
    return Pretended(value) if type(value) is Tensor else value


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Within, the device is there."""
    with _Factories(), _Literals():
        yield PRETENDED
