"""LN(residual + dropout(states + bias)): kernel against twin, and what the operation promises.

The kernel agrees with the twin within 1e-5 of the largest number in float32, 1e-3 in float16 and
2^-7, the last place, in bfloat16.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pretrain.kernels import dropout_residual_norm as subject
from pretrain.kernels import selection
from pretrain.kernels.counter_dropout import Places, kept_channels
from tests.pretrain.kernels.ahead_of_time import TARGETS, Budget, assert_within, built
from tests.pretrain.kernels.interpreter import interpreted, needs_triton

TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 2**-7}
SHAPES = [(1, 1), (3, 1), (1, 3), (5, 127), (127, 3), (3, 1023), (13, 64), (2, 769)]
SITE, EPSILON = 11, 1e-12


def drawn(rows: int, channels: int, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    """States, bias, residual, weight and shift."""
    generator = torch.Generator().manual_seed(rows * 10007 + channels)
    shapes = ((rows, channels), (channels,), (rows, channels), (channels,), (channels,))
    parts = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    return [part.requires_grad_() for part in parts]


def places(rows: int, device: str = "cpu") -> Places:
    generator = torch.Generator().manual_seed(rows)
    samples = torch.randint(0, 2**40, (rows,), generator=generator)
    tokens = torch.randint(0, 2**16, (rows,), generator=generator)
    return Places(torch.tensor([-(2**60) - 3]).to(device), samples.to(device), tokens.to(device))


def results(
    name: str, parts: list[Tensor], where: Places, probability: float, gradient: Tensor
) -> list[Tensor]:
    """The output of the implementation `name`, and the gradients of the five inputs."""
    # A few channels may happen to be almost equal: then the last place is all that is normalised.
    epsilon = EPSILON if parts[0].shape[1] >= 64 else 0.1
    selection.override({"dropout_residual_norm": name})
    try:
        found = subject.dropout_residual_norm(*parts, where, SITE, probability, epsilon)
        return [found.detach(), *torch.autograd.grad(found, parts, gradient)]
    finally:
        selection.override({})


def compare(rows: int, channels: int, dtype: torch.dtype, probability: float, device: str) -> None:
    parts, where = drawn(rows, channels, dtype, device), places(rows, device)
    gradient = drawn(rows, channels, dtype, device)[2].detach().flip(0)
    kernel, twin = (
        results(name, parts, where, probability, gradient) for name in ("triton", "plain")
    )
    for number, (one, other) in enumerate(zip(kernel, twin, strict=True)):
        assert one.dtype == other.dtype == dtype
        bound = TOLERANCES[dtype] * max(1.0, float(other.float().abs().max()))
        apart = float((one.float() - other.float()).abs().max())
        assert apart <= bound, (rows, channels, dtype, number, apart, bound)
    # What is dropped has no gradient: the masks are equal bit for bit.
    if probability > 0 and channels > 1 and dtype == torch.float32:
        kept = kept_channels(where, SITE, channels, probability)
        for found in (kernel[1], twin[1]):
            assert torch.equal(found[~kept], torch.zeros_like(found[~kept]))


def check_shapes() -> None:
    for rows, channels in SHAPES:
        for dtype in TOLERANCES:
            compare(rows, channels, dtype, 0.1, "cpu")
    compare(5, 64, torch.float32, 0.0, "cpu")
    compare(5, 64, torch.float32, 0.9, "cpu")


def check_drawn_shapes() -> None:
    @settings(max_examples=12, deadline=None, database=None, derandomize=True)
    @given(
        st.integers(1, 40),
        st.integers(1, 1100),
        st.sampled_from(list(TOLERANCES)),
        st.sampled_from([0.0, 0.1, 0.5]),
    )
    def same(rows: int, channels: int, dtype: torch.dtype, probability: float) -> None:
        compare(rows, channels, dtype, probability, "cpu")

    same()


def check_bfloat16_is_converted_before_any_arithmetic() -> None:
    """Without that the interpreter adds bfloat16 as integers, as the first kernel shows."""
    import triton
    import triton.language as tl

    @triton.jit
    def unguarded(numbers, sums, block: tl.constexpr):  # type: ignore[no-untyped-def]
        place = tl.arange(0, block)
        values = tl.load(numbers + place)
        tl.store(sums + place, values + values)

    numbers = torch.full((4,), 1.5, dtype=torch.bfloat16)
    sums = torch.empty_like(numbers)
    unguarded[(1,)](numbers, sums, 4)
    assert not torch.equal(sums, numbers + numbers)  # the trap is there

    parts, where = drawn(3, 127, torch.bfloat16), places(3)
    found = results("triton", parts, where, 0.1, parts[2].detach())
    wide = [part.detach().float().requires_grad_() for part in parts]
    right = results("plain", wide, where, 0.1, parts[2].detach().float())
    for one, other in zip(found, right, strict=True):
        assert (one.float() - other).abs().max() <= 2**-5 * max(1.0, float(other.abs().max()))


@needs_triton
def test_in_tritons_interpreter_the_kernels_are_the_twin() -> None:
    interpreted(check_shapes, check_drawn_shapes, check_bfloat16_is_converted_before_any_arithmetic)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_kernels_are_the_twin() -> None:
    for rows, channels in [*SHAPES, (4099, 768), (1021, 1024)]:
        for dtype in TOLERANCES:
            compare(rows, channels, dtype, 0.1, "cuda")


@pytest.mark.parametrize("rows", [1, 7])
def test_the_operation_is_the_reference_and_its_gradients_are_right(rows: int) -> None:
    parts, where = drawn(rows, 19, torch.float64), places(rows)
    found = subject.dropout_residual_norm(*parts, where, SITE, 0.3, EPSILON)
    reference = subject.plain(*parts, where, SITE, 0.3, EPSILON)
    torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-12)

    def operation(*inputs: Tensor) -> Tensor:
        return subject.dropout_residual_norm(*inputs, where, SITE, 0.3, EPSILON)

    # Double precision goes through the plain forward and backward, and through autograd.
    assert torch.autograd.gradcheck(operation, parts)
    assert torch.autograd.gradcheck(lambda *p: subject.plain(*p, where, SITE, 0.3, EPSILON), parts)


def test_halves_are_rounded_once() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        parts, where = drawn(9, 65, dtype), places(9)
        found = results("plain", parts, where, 0.1, parts[2].detach())
        wide = [part.detach().double().requires_grad_() for part in parts]
        right = results("plain", wide, where, 0.1, parts[2].detach().double())
        for one, other in zip(found, right, strict=True):
            bound = TOLERANCES[dtype] * max(1.0, float(other.abs().max()))
            assert (one.double() - other).abs().max() <= bound


def test_shapes_above_rows_are_kept() -> None:
    parts, where = drawn(6, 8, torch.float32), places(6)
    flat = subject.dropout_residual_norm(*parts, where, SITE, 0.1, EPSILON)
    states, bias, residual, weight, shift = parts
    folded = Places(where.seed, where.samples.view(2, 3), where.tokens.view(2, 3))
    found = subject.dropout_residual_norm(
        states.view(2, 3, 8), bias, residual.view(2, 3, 8), weight, shift, folded, SITE, 0.1,
        EPSILON,
    )  # fmt: skip
    assert torch.equal(found.view(6, 8), flat)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_torch_compile_sees_one_operation(dtype: torch.dtype) -> None:
    parts, where = drawn(4, 12, dtype), places(4)

    def step(*inputs: Tensor) -> Tensor:
        return subject.dropout_residual_norm(*inputs, where, SITE, 0.1, EPSILON) * 2

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    found, right = compiled(*parts), step(*parts)
    assert torch.equal(found, right)
    pulled = [torch.autograd.grad(each.sum(), parts) for each in (found, right)]
    for one, other in zip(*pulled, strict=True):
        assert torch.equal(one, other)


def test_the_registration_is_what_torch_asks_of_an_operation() -> None:
    parts, where = drawn(3, 5, torch.float32), places(3)
    inputs = (*parts, where.seed, where.samples, where.tokens, SITE, 0.1, EPSILON)
    torch.library.opcheck(torch.ops.trawl.dropout_residual_norm.default, inputs)


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("number", ["bf16", "fp16", "fp32"])
def test_the_kernels_are_built_within_budget(number: str, target: int, tmp_path: Path) -> None:
    from pretrain.kernels import dropout_residual_norm_kernel as kernels

    tensors = ["states", "bias", "residual", "weight", "shift", "total", "normed", "gradient"]
    tensors += ["of_states", "of_residual"]
    wide = ("mean", "inverse", "of_bias", "of_weight", "of_shift")
    types = {
        **dict.fromkeys(tensors, f"*{number}!"),
        **dict.fromkeys(wide, "*fp32!"),
        **dict.fromkeys(("seed", "samples", "tokens"), "*i64!"),
        **dict.fromkeys(("rows", "channels"), "i32!"),
        **dict.fromkeys(("epsilon", "scale"), "fp32"),
        "site": "i32",
    }
    constants = {"threshold": 429496730, "block": 1024}
    for kernel in (kernels.forward_kernel, kernels.backward_kernel):
        own = {name: kind for name, kind in types.items() if name in kernel.arg_names}
        made = built(kernel, own, constants, num_warps=4, target=target)
        # 768 channels: 4 warps, of which 16 or 8 fit on a multiprocessor.
        assert_within(made, Budget(registers=128, shared=4096), tmp_path)
