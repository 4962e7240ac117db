"""Attention within packed rows: kernels against the row-by-row twin.

They agree within 1e-5 of the largest number in float32, 2e-3 in float16 and 2^-6, twice the last
place, in bfloat16, whose shares are rounded before the product. The gradient of a share is the
difference of two numbers, one of them from the rounded result, as in FlashAttention: where many
queries see one key alone, whose gradient is 0, halves leave the sum of their roundings.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pretrain.kernels import packed_attention as subject
from pretrain.kernels.counter_dropout import REGIONS, Places, ShareDropout
from tests.pretrain.kernels.ahead_of_time import (
    TARGETS,
    Budget,
    assert_tensor_cores,
    assert_within,
    built,
)
from tests.pretrain.kernels.interpreter import interpreted, needs_triton

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2**-6}
SELF = [[1], [3, 1, 2], [127], [70, 1, 7, 64, 65]]
CROSS = [([1, 5, 2], [7, 1, 70]), ([64, 1], [1, 129]), ([3], [144])]


def starts(asking: list[int], offering: list[int], device: str = "cpu") -> subject.Starts:
    both = []
    for lengths in (asking, offering):
        ends = torch.tensor([0, *lengths]).cumsum(0)
        both.append(ends.to(device, torch.int32))
    return subject.Starts(*both, max(asking), max(offering))


def dropout(
    asking: list[int], offering: list[int], probability: float, device: str = "cpu"
) -> ShareDropout | None:
    if probability == 0:
        return None
    samples = torch.arange(len(asking)).repeat_interleave(torch.tensor(asking)) * (2**32 + 5)
    places = Places(
        torch.tensor([-(2**50) - 1]).to(device),
        samples.to(device),
        torch.cat([torch.arange(length) for length in asking]).to(device),
    )
    keys = torch.cat([REGIONS + torch.arange(length) for length in offering]).to(device)
    return ShareDropout(places, keys, 6, probability)


def compare(
    lengths: tuple[list[int], list[int]],
    heads: int,
    size: int,
    dtype: torch.dtype,
    probability: float,
    device: str = "cpu",
) -> None:
    generator = torch.Generator().manual_seed(sum(map(sum, lengths)) + size)
    counts = (sum(lengths[0]), sum(lengths[1]), sum(lengths[1]), sum(lengths[0]))
    *parts, gradient = (
        torch.randn(count, heads, size, generator=generator).to(device, dtype) for count in counts
    )
    for part in parts:
        part.requires_grad_()
    where = starts(*lengths, device)
    drop = dropout(*lengths, probability, device)
    found = subject.by_kernel(*parts, where, drop)
    # The twin in float32: in halves it rounds scores and shares, which the kernels do not.
    wide = [part.detach().float().requires_grad_() for part in parts]
    right = subject.plain(*wide, where, drop)
    kernel = [found, *torch.autograd.grad(found, parts, gradient)]
    twin = [right, *torch.autograd.grad(right, wide, gradient.float())]
    for number, (one, other) in enumerate(zip(kernel, twin, strict=True)):
        assert one.dtype == dtype
        bound = TOLERANCES[dtype] * max(1.0, float(other.detach().abs().max()))
        apart = float((one.detach().float() - other.detach()).abs().max())
        assert apart <= bound, (lengths, heads, size, dtype, probability, number, apart, bound)


def check_rows_of_one_stream() -> None:
    for lengths in SELF:
        compare((lengths, lengths), 1, 32, torch.float16, 0.1)
    for dtype in TOLERANCES:
        for size in (32, 64, 128):
            compare(([5, 33], [5, 33]), 2, size, dtype, 0.1)
        compare(([17, 3], [17, 3]), 1, 64, dtype, 0.0)
    compare(([4, 9], [4, 9]), 3, 7, torch.float32, 0.5)  # a head size that is no power of two


def check_one_stream_to_another() -> None:
    for asking, offering in CROSS:
        compare((asking, offering), 1, 32, torch.float32, 0.1)
    compare(CROSS[0], 2, 64, torch.bfloat16, 0.1)
    compare(CROSS[0], 2, 64, torch.float16, 0.0)


def check_rows_without_keys_find_nothing() -> None:
    query, key = torch.randn(3, 1, 16), torch.randn(2, 1, 16)
    found = subject.by_kernel(query, key, key, starts([1, 2], [0, 2]))
    assert torch.equal(found[:1], torch.zeros(1, 1, 16))
    torch.testing.assert_close(found, subject.plain(query, key, key, starts([1, 2], [0, 2])))


def check_drawn_shapes() -> None:
    lengths = st.lists(st.tuples(st.integers(1, 80), st.integers(1, 80)), min_size=1, max_size=3)

    @settings(max_examples=10, deadline=None, database=None, derandomize=True)
    @given(
        lengths,
        st.integers(1, 3),
        st.sampled_from([16, 32, 48, 64]),
        st.sampled_from(list(TOLERANCES)),
        st.sampled_from([0.0, 0.2]),
    )
    def same(
        rows: list[tuple[int, int]], heads: int, size: int, dtype: torch.dtype, probability: float
    ) -> None:
        asking, offering = ([row[side] for row in rows] for side in (0, 1))
        compare((asking, offering), heads, size, dtype, probability)

    same()


@needs_triton
def test_in_tritons_interpreter_the_kernels_are_the_twin() -> None:
    interpreted(
        check_rows_of_one_stream,
        check_one_stream_to_another,
        check_rows_without_keys_find_nothing,
        check_drawn_shapes,
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_kernels_are_the_twin() -> None:
    for dtype in TOLERANCES:
        for size in (32, 64, 128):
            for probability in (0.0, 0.1):
                compare((SELF[3], SELF[3]), 12, size, dtype, probability, "cuda")
                compare(CROSS[1], 12, size, dtype, probability, "cuda")


def test_the_twins_gradients_are_right_and_each_row_is_by_itself() -> None:
    lengths = ([2, 1, 3], [3, 2, 1])
    generator = torch.Generator().manual_seed(0)
    parts = [
        torch.randn(6, 2, 4, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(3)
    ]
    drop = dropout(*lengths, 0.3)

    def twin(*inputs: Tensor) -> Tensor:
        return subject.plain(*inputs, starts(*lengths), drop)

    assert torch.autograd.gradcheck(twin, parts)
    pulled = torch.autograd.grad(twin(*parts)[:2].sum(), parts)
    assert all(not each[3:].any() for each in pulled)


@needs_triton
@pytest.mark.parametrize(
    ("number", "size", "target"),
    [
        *(("bf16", size, target) for size in (64, 128) for target in TARGETS),
        ("bf16", 32, 90),
        ("fp16", 64, 90),
        ("fp32", 64, 80),
    ],
)
def test_the_kernels_are_built_within_budget_for_tensor_cores(
    number: str, size: int, target: int, tmp_path: Path
) -> None:
    import triton.language as tl

    from pretrain.kernels import packed_attention_kernel as kernels

    states = ("query", "key", "value", "mixed", "gradient", "of_query", "of_key", "of_value")
    types = {
        **dict.fromkeys(states, f"*{number}!"),
        **dict.fromkeys(("sums", "along"), "*fp32!"),
        **dict.fromkeys(("query_starts", "key_starts"), "*i32!"),
        **dict.fromkeys(("seed", "samples", "asking", "offering"), "*i64!"),
        **dict.fromkeys(("queries", "heads", "site"), "i32"),
        **dict.fromkeys(("factor", "root", "scale"), "fp32"),
    }
    kinds = {"bf16": tl.bfloat16, "fp16": tl.float16, "fp32": tl.float32}
    constants = {"threshold": 429496730, "size": size, "block": size}
    constants |= {"precision": "ieee", "kind": kinds[number]}
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[number]
    own, other = kernels.tiles(torch.empty(1, 1, size, dtype=dtype), 144, 144)
    # A multiprocessor holds one program of the widest heads on sm_80, two or more of all others.
    budget = Budget(registers=255, shared=84 * 1024, stack=40 if size == 128 else 8)
    for kernel, rows, keys in (
        (kernels.forward_kernel, own, other),
        (kernels.query_kernel, own, other),
        (kernels.key_kernel, other, own),
    ):
        own_types = {name: kind for name, kind in types.items() if name in kernel.arg_names}
        sizes = {"rows_of_tile": rows, "keys_of_tile": keys}
        made = built(kernel, own_types, constants | sizes, target=target, **kernels.WARPS)
        assert_within(made, budget, tmp_path)
        if number != "fp32":
            assert_tensor_cores(made, target)
