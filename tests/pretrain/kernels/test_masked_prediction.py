"""Masked prediction: chunks and kernels against torch's cross-entropy, memory, and the binaries.

In float32 losses and gradients agree within 1e-5 of the largest number. In half precision they are
compared with float32 on the same numbers, and agree within the rounding of the type, 2^-10 and
2^-7, a few times over: gradients of scores are rounded before they are multiplied.
"""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pretrain.kernels import masked_prediction as subject
from tests.pretrain.kernels.ahead_of_time import (
    TARGETS,
    Budget,
    assert_tensor_cores,
    assert_within,
    built,
)
from tests.pretrain.kernels.interpreter import interpreted, needs_triton

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2**-8, torch.bfloat16: 2**-5}
# Tokens, rows of the decoder, width, and how many of the rows are words.
SHAPES = [
    (1, 3, 1, 3),
    (1, 1, 3, 1),
    (3, 127, 16, 127),
    (127, 1023, 31, 1009),
    (29, 2053, 48, 2053),
]


def drawn(tokens: int, rows: int, width: int, words: int, dtype: torch.dtype) -> list[Tensor]:
    """Hidden states, weight, bias, labels of which a third are -1, and the losses' gradient."""
    generator = torch.Generator().manual_seed(tokens * 10007 + rows)
    draw = functools.partial(torch.randn, generator=generator)
    labels = torch.randint(0, words, (tokens,), generator=generator)
    labels[torch.rand(tokens, generator=generator) < 1 / 3] = subject.IGNORED
    parts = [draw(tokens, width), draw(rows, width) * 0.3, draw(rows)]
    return [*(part.to(dtype) for part in parts), labels, draw(tokens)]


def results(parts: list[Tensor], words: int, implementation: str) -> list[Tensor]:
    """The losses, and the gradients of hidden states, weight and bias."""
    inputs = [part.detach().requires_grad_() for part in parts[:3]]
    losses = subject.token_losses(*inputs, parts[3], implementation, words)
    return [losses.detach(), *torch.autograd.grad(losses, inputs, parts[4])]


def compare(
    shape: tuple[int, int, int, int], dtype: torch.dtype, implementation: str, device: str = "cpu"
) -> None:
    parts = [part.to(device) for part in drawn(*shape, dtype)]
    found = results(parts, shape[3], implementation)
    wide = [part.float() if part.is_floating_point() else part for part in parts]
    right = results(wide, shape[3], "plain")
    assert found[0].dtype == torch.float32
    assert [part.dtype for part in found[1:]] == [dtype] * 3
    for number, (one, other) in enumerate(zip(found, right, strict=True)):
        bound = TOLERANCES[dtype] * max(1.0, float(other.abs().max()))
        apart = float((one.float() - other).abs().max())
        assert apart <= bound, (shape, dtype, number, apart, bound)


def check_shapes() -> None:
    for shape in SHAPES:
        for dtype in TOLERANCES:
            compare(shape, dtype, "triton")


def check_drawn_shapes() -> None:
    @settings(max_examples=12, deadline=None, database=None, derandomize=True)
    @given(
        st.integers(1, 140),
        st.integers(1, 600),
        st.integers(1, 80),
        st.integers(0, 70),
        st.sampled_from(list(TOLERANCES)),
    )
    def same(tokens: int, words: int, width: int, padding: int, dtype: torch.dtype) -> None:
        compare((tokens, words + padding, width, words), dtype, "triton")

    same()


def check_bfloat16_is_multiplied_as_float32() -> None:
    """The interpreter would multiply bfloat16 as integers, which the first product shows."""
    import triton.language as tl

    from pretrain.kernels import masked_prediction_kernel as kernels

    parts = drawn(3, 127, 16, 127, torch.bfloat16)
    right = subject.losses_by_chunks(*parts[:4], 127)
    whole = kernels.multiplied
    try:
        kernels.multiplied = lambda _: tl.bfloat16  # type: ignore[assignment]
        wrong = kernels.losses_by_kernel(*parts[:4], 127)
    finally:
        kernels.multiplied = whole
    found = kernels.losses_by_kernel(*parts[:4], 127)
    assert not torch.allclose(wrong[1], right[1], atol=1.0)  # the trap is there
    torch.testing.assert_close(found, right, atol=2**-5, rtol=2**-5)


@needs_triton
@pytest.mark.slow
def test_in_tritons_interpreter_the_kernels_are_the_twin() -> None:
    interpreted(check_shapes, check_drawn_shapes, check_bfloat16_is_multiplied_as_float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_kernels_are_the_twin() -> None:
    for shape in [*SHAPES, (1021, 30522, 768, 30522)]:
        for dtype in TOLERANCES:
            compare(shape, dtype, "triton", "cuda")


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("shape", [*SHAPES, (5, 9001, 8, 8999)])
def test_by_chunks_losses_and_gradients_are_those_of_all_scores(
    shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    compare(shape, dtype, "chunked")


def test_the_twin_is_the_cross_entropy_of_torch() -> None:
    hidden, weight, bias, labels, _ = drawn(127, 1023, 31, 1023, torch.float32)
    losses = subject.plain(hidden, weight, bias, labels, 1023)
    scores = hidden @ weight.t() + bias
    right = functional.cross_entropy(scores, labels, ignore_index=-1, reduction="sum")
    torch.testing.assert_close(losses.sum(), right)
    assert losses[labels == subject.IGNORED].eq(0).all()
    fused = getattr(functional, "linear_cross_entropy", None)
    if fused is not None:  # torch 2.15 has it, 2.11 has not
        mine = subject.token_losses(hidden, weight, bias, labels, "chunked")
        theirs = fused(hidden, weight, labels, linear_bias=bias, ignore_index=-1, reduction="sum")
        torch.testing.assert_close(mine.sum(), theirs)


def test_nothing_predicted_is_no_loss_and_no_gradient() -> None:
    parts = drawn(4, 9, 5, 9, torch.float32)
    parts[3].fill_(subject.IGNORED)
    for found in results(parts, 9, "chunked"):
        assert found.eq(0).all()
    empty = [part[:0] if number in (0, 3, 4) else part for number, part in enumerate(parts)]
    losses, of_hidden, of_weight, of_bias = results(empty, 9, "chunked")
    assert losses.shape == (0,)
    assert of_hidden.shape == (0, 5)
    assert of_weight.eq(0).all()
    assert of_bias.eq(0).all()


def test_padding_of_the_vocabulary_is_never_a_word() -> None:
    parts = drawn(7, 64, 5, 50, torch.float32)
    parts[2][50:] = 1e4  # would be certain, were it a word
    losses, _, of_weight, of_bias = results(parts, 50, "chunked")
    assert losses.max() < 100
    assert of_weight[50:].eq(0).all()
    assert of_bias[50:].eq(0).all()


class _Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation returned."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, Tensor):
                self.size = max(self.size, each.nbytes)
        return found


def _largest(implementation: str, tokens: int, words: int) -> int:
    parts = drawn(tokens, words, 8, words, torch.float32)
    inputs = [part.requires_grad_() for part in parts[:3]]
    with _Largest() as seen:
        # The parts of an operation of torch.library are seen where it is called below autograd.
        if implementation == "plain":
            subject.plain(*inputs, parts[3], words).sum().backward()
        else:
            hidden, weight, bias = (part.detach() for part in inputs)
            _, normalisers = subject.losses_by_chunks(hidden, weight, bias, parts[3], words)
            for chunk in subject.chunks(tokens, words):
                subject.gradient_of_chunk(
                    hidden, weight, bias, parts[3], normalisers, parts[4], chunk
                )
    return seen.size


def test_no_tensor_has_the_scores_of_all_words() -> None:
    tokens, words = 600, 30522
    assert _largest("plain", tokens, words) == 4 * tokens * words
    assert _largest("chunked", tokens, words) <= 4 * tokens * 8192 < 4 * tokens * words / 3


def check_the_kernels_keep_no_scores() -> None:
    """What they allocate: two numbers a token and part, and the gradient of one chunk.

    The interpreter copies what it is given, of which the weight is the largest.
    """
    from pretrain.kernels import masked_prediction_kernel as kernels

    tokens, words = 64, 9001
    parts = drawn(tokens, words, 8, words, torch.float32)
    with _Largest() as seen:
        _, normalisers = kernels.losses_by_kernel(*parts[:4], words)
    assert seen.size == parts[1].nbytes < 4 * tokens * words / 7
    with _Largest() as seen:
        chunk = next(iter(subject.chunks(tokens, words)))
        kernels.gradient_by_kernel(*parts[:4], normalisers, parts[4], chunk)
    assert seen.size == 4 * tokens * len(chunk) < 4 * tokens * words


@needs_triton
def test_the_kernels_keep_no_scores() -> None:
    interpreted(check_the_kernels_keep_no_scores)


def test_torch_compile_sees_one_operation() -> None:
    parts = drawn(5, 33, 8, 33, torch.float32)
    inputs = [part.requires_grad_() for part in parts[:3]]

    def step(*given: Tensor) -> Tensor:
        return subject.token_losses(*given, parts[3], "chunked") * 2

    found, right = torch.compile(step, fullgraph=True, backend="aot_eager")(*inputs), step(*inputs)
    assert torch.equal(found, right)
    pulled = [torch.autograd.grad(each.sum(), inputs) for each in (found, right)]
    for one, other in zip(*pulled, strict=True):
        assert torch.equal(one, other)


def test_the_registration_is_what_torch_asks_of_an_operation() -> None:
    hidden, weight, bias, labels, _ = drawn(3, 7, 5, 7, torch.float32)
    inputs = (hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), labels)
    torch.library.opcheck(torch.ops.trawl.token_losses.default, (*inputs, 7, False))


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("number", ["bf16", "fp16"])
def test_the_kernels_are_built_within_budget(number: str, target: int, tmp_path: Path) -> None:
    import triton.language as tl

    from pretrain.kernels import masked_prediction_kernel as kernels

    compute = {"bf16": tl.bfloat16, "fp16": tl.float16}[number]
    halves = ("hidden", "weight", "bias", "gradient")
    types = {
        **dict.fromkeys(halves, f"*{number}!"),
        **dict.fromkeys(("normalisers", "chosen", "incoming"), "*fp32!"),
        **dict.fromkeys(("positions", "words", "span", "first", "chunk"), "i32"),
        "labels": "*i64!",
        "width": "i32!",
    }
    constants = {**kernels.tiles(compute), "compute": compute}
    for kernel in (kernels.losses_kernel, kernels.gradient_kernel):
        own = {name: kind for name, kind in types.items() if name in kernel.arg_names}
        made = built(kernel, own, constants, num_warps=8, target=target)
        assert_within(made, Budget(registers=255, shared=100 * 1024), tmp_path)
        assert_tensor_cores(made, target)
