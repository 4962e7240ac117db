"""Region embedding: the kernels against the twin and against each family's own layers.

Kernels and twin agree within 1e-5 of the largest number in float32, 2^-9 in float16 and 2^-6 in
bfloat16: the twin computes rows in float32, and products are rounded once in both.
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pretrain.kernels import region_embedding as subject
from pretrain.kernels.counter_dropout import Places, kept_channels
from pretrain.kernels.region_embedding import Dropout, Layers
from tests.pretrain.kernels.ahead_of_time import (
    TARGETS,
    Budget,
    assert_tensor_cores,
    assert_within,
    built,
)
from tests.pretrain.kernels.interpreter import interpreted, needs_triton

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2**-9, torch.bfloat16: 2**-6}
STORED = (torch.int8, torch.float16, torch.float32)
FORMS = ("sum", "normalised", "mean")
# Regions, numbers of a feature, width.
PRODUCTS = [(1, 1, 1), (3, 127, 33), (127, 131, 65), (1, 1023, 7), (67, 3, 129)]
# Regions, rows of text, width, numbers of a box.
ROWS = [(1, 0, 3, 4), (3, 2, 127, 5), (29, 13, 48, 6), (7, 3, 1023, 7), (127, 1, 64, 6)]
SITE = 7


def features(
    regions: int, size: int, stored: torch.dtype, device: str = "cpu"
) -> tuple[Tensor, Tensor | None]:
    """Features as the corpus stores them, and scales beside int8 ones."""
    generator = torch.Generator().manual_seed(regions * 10007 + size)
    if stored is not torch.int8:
        return torch.randn(regions, size, generator=generator).to(device, stored), None
    values = torch.randint(-127, 128, (regions, size), dtype=torch.int8, generator=generator)
    scales = (torch.rand(regions, generator=generator) / 50).half()
    return values.to(device), scales.to(device)


def compare_products(
    shape: tuple[int, int, int], stored: torch.dtype, dtype: torch.dtype, device: str = "cpu"
) -> None:
    regions, size, width = shape
    values, scales = features(regions, size, stored, device)
    generator = torch.Generator().manual_seed(width)
    weight = torch.randn(width, size, generator=generator).to(device, dtype).requires_grad_()
    gradient = torch.randn(regions, width, generator=generator).to(device, dtype)
    found = []
    for implementation, own in (("triton", weight), ("plain", weight.detach().float())):
        own.requires_grad_()
        projected = subject.projected_features(values, scales, own, implementation)
        (of_weight,) = torch.autograd.grad(projected, own, gradient.to(own.dtype))
        found.append((projected.detach(), of_weight))
    for one, other in zip(*found, strict=True):
        assert one.dtype == dtype
        bound = TOLERANCES[dtype] * max(1.0, float(other.abs().max()))
        apart = float((one.float() - other).abs().max())
        assert apart <= bound, (shape, stored, dtype, apart, bound)


def layers(form: str, width: int, numbers: int, dtype: torch.dtype) -> Layers:
    """Layers of a form, drawn; the projection's weight is not read by rows."""
    generator = torch.Generator().manual_seed(width)
    draw = functools.partial(torch.randn, generator=generator)
    # With few numbers some rows are almost constant, and then all is rounding.
    made = Layers(
        draw(width, 1).to(dtype), draw(width, numbers).to(dtype), draw(width), epsilon=0.1
    )
    if form != "sum":
        made = replace(made, gain=draw(width).to(dtype), shift=draw(width).to(dtype))
    if form == "mean":
        gains = {"box_gain": draw(width).to(dtype), "box_shift": draw(width).to(dtype)}
        made = replace(made, box_offset=draw(width), **gains)
    return made


def leaves(made: Layers, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of layers, as those that gradients are wanted of."""
    found = {name: value for name, value in vars(made).items() if isinstance(value, Tensor)}
    return {
        name: value.to(device).requires_grad_() for name, value in found.items() if name != "weight"
    }


def results(
    implementation: str, made: Layers, inputs: dict[str, Any], dropout: Dropout | None
) -> dict[str, Tensor]:
    """The stream, and the gradients of all that has one."""
    own = leaves(made, inputs["projected"].device.type)
    projected, text = (inputs[name].clone().requires_grad_() for name in ("projected", "text"))
    stream = subject.embedded_rows(
        projected,
        inputs["boxes"],
        replace(made, **own),
        implementation,
        dropout,
        text,
        inputs["places"],
    )
    wanted = {"projected": projected, "text": text, **own}
    pulled = torch.autograd.grad(stream, list(wanted.values()), inputs["gradient"])
    return {"stream": stream.detach(), **dict(zip(wanted, pulled, strict=True))}


def _most(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def compare_rows(
    shape: tuple[int, int, int, int],
    form: str,
    dtype: torch.dtype,
    probability: float,
    device: str = "cpu",
    placed: bool = True,
) -> None:
    regions, texts, width, numbers = shape
    generator = torch.Generator().manual_seed(regions * 10007 + width)
    draw = functools.partial(torch.randn, generator=generator)
    inputs: dict[str, Any] = {
        "projected": draw(regions, width).to(device, dtype),
        "boxes": torch.rand(regions, numbers, generator=generator).to(device),
        "text": draw(texts, width).to(device, dtype),
        "places": torch.randperm(regions + texts, generator=generator).to(device),
        "gradient": draw(regions + texts, width).to(device, dtype),
    }
    if not placed:
        inputs["places"] = None
    samples = torch.randint(0, 2**40, (regions,), generator=generator).to(device)
    whose = Places(
        torch.tensor([-(2**60) - 3]).to(device), samples, torch.arange(regions).to(device)
    )
    dropout = Dropout(probability, SITE, whose)
    made = layers(form, width, numbers, dtype)
    kernel = results("triton", made, inputs, dropout)
    twin = results("plain", made, inputs, dropout)
    for name, one in kernel.items():
        other = twin[name]
        assert one.dtype == other.dtype
        bound = TOLERANCES[dtype] * max(1.0, _most(other))
        apart = _most(one.float() - other.float())
        assert apart <= bound, (shape, form, dtype, probability, name, apart, bound)
    if probability > 0 and not placed:  # the masks are equal bit for bit
        kept = kept_channels(whose, SITE, width, probability)
        assert kernel["stream"][texts:][~kept].eq(0).all()


def check_products() -> None:
    for shape in PRODUCTS:
        for dtype in TOLERANCES:
            for stored in STORED:
                compare_products(shape, stored, dtype)


def check_rows() -> None:
    for shape in ROWS:
        for form in FORMS:
            for dtype in TOLERANCES:
                compare_rows(shape, form, dtype, 0.1)
    compare_rows((5, 3, 64, 5), "normalised", torch.float32, 0.0)
    compare_rows((5, 3, 64, 5), "normalised", torch.float32, 0.5, placed=False)


def check_drawn_shapes() -> None:
    @settings(max_examples=12, deadline=None, database=None, derandomize=True)
    @given(
        st.tuples(st.integers(1, 40), st.integers(1, 300), st.integers(1, 140)),
        st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(2, 300), st.integers(4, 7)),
        st.sampled_from(FORMS),
        st.sampled_from(STORED),
        st.sampled_from(list(TOLERANCES)),
        st.sampled_from([0.0, 0.1]),
    )
    def same(
        product: tuple[int, int, int],
        rows: tuple[int, int, int, int],
        form: str,
        stored: torch.dtype,
        dtype: torch.dtype,
        probability: float,
    ) -> None:
        compare_products(product, stored, dtype)
        compare_rows(rows, form, dtype, probability)

    same()


@needs_triton
@pytest.mark.slow
def test_in_tritons_interpreter_the_kernels_are_the_twin() -> None:
    interpreted(check_products, check_rows, check_drawn_shapes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_kernels_are_the_twin() -> None:
    for dtype in TOLERANCES:
        for stored in STORED:
            for product in [*PRODUCTS, (4099, 2048, 768)]:
                compare_products(product, stored, dtype, "cuda")
        for form in FORMS:
            for rows in [*ROWS, (4099, 1021, 768, 6), (257, 31, 1024, 5)]:
                compare_rows(rows, form, dtype, 0.1, "cuda")


def test_the_twins_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    projected = torch.randn(3, 5, generator=generator).requires_grad_()
    boxes = torch.rand(3, 4, generator=generator)
    made = layers("mean", 5, 4, torch.float32)
    found = subject.rows_plain(projected, boxes, made)
    norm = torch.nn.functional.layer_norm
    seen = norm(projected + made.offset, (5,), made.gain, made.shift, made.epsilon)
    assert made.box_offset is not None
    placed = boxes @ made.box_weight.t() + made.box_offset
    other = norm(placed, (5,), made.box_gain, made.box_shift, made.epsilon)
    torch.testing.assert_close(found, (seen + other) / 2)


def test_the_registrations_are_what_torch_asks_of_operations() -> None:
    """Shapes and types that torch.compile is told, without a kernel that runs."""
    with torch.device("meta"):
        values, weight = torch.empty(9, 32, dtype=torch.int8), torch.empty(16, 32)
        weight.requires_grad_()
        projected = subject.projected_features(values, torch.empty(9).half(), weight, "triton")
        assert projected.shape == (9, 16)
        text = torch.empty(4, 16, requires_grad=True)
        own = leaves(layers("mean", 16, 4, torch.float32), "meta")
        made = replace(layers("mean", 16, 4, torch.float32), weight=weight, **own)
        stream = subject.embedded_rows(
            projected, torch.empty(9, 4), made, "triton", None, text, torch.empty(13).long()
        )
        assert stream.shape == (13, 16)
        wanted = [weight, text, *own.values()]
        for one, other in zip(wanted, torch.autograd.grad(stream.sum(), wanted), strict=True):
            assert one.shape == other.shape


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stored", ["i8", "fp16"])
def test_the_products_are_built_within_budget(stored: str, target: int, tmp_path: Path) -> None:
    import triton.language as tl

    from pretrain.kernels import region_projection_kernel as kernels

    types = {
        **dict.fromkeys(("weight", "projected", "incoming", "gradient"), "*bf16!"),
        **dict.fromkeys(("size", "width"), "i32!"),
        "values": f"*{stored}!",
        "scales": "*fp16!",
        "regions": "i32",
    }
    constants = {**kernels.tiles(tl.bfloat16), "compute": tl.bfloat16, "scaled": stored == "i8"}
    for kernel in (kernels.project_kernel, kernels.weight_gradient_kernel):
        own = {name: kind for name, kind in types.items() if name in kernel.arg_names}
        made = built(kernel, own, constants, num_warps=4, target=target)
        assert_within(made, Budget(registers=255, shared=76 * 1024), tmp_path)
        assert_tensor_cores(made, target)


@needs_triton
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", [1, 2])
def test_the_row_work_is_built_within_budget(form: int, target: int, tmp_path: Path) -> None:
    from pretrain.kernels import region_rows_kernel as kernels

    halves = ("projected", "box_weight", "text", "stream", "incoming", "of_projected", "of_boxes")
    wide = ("boxes", "offset", "gain", "shift", "box_offset", "box_gain", "box_shift")
    types = {
        **dict.fromkeys(halves, "*bf16!"),
        **dict.fromkeys((*wide, "statistics", "sums"), "*fp32!"),
        **dict.fromkeys(("places", "seed", "samples", "tokens"), "*i64!"),
        **dict.fromkeys(("texts", "regions"), "i32"),
        **dict.fromkeys(("epsilon", "scale"), "fp32"),
        "width": "i32!",
    }
    constants = {"numbers": 6, "form": form, "placed": True, "site": 3, "threshold": 429496730}
    constants |= kernels.tiles(768)
    # Of the forward pass 6 programs fit on a multiprocessor, or 3; of the backward pass 2.
    budgets = {
        kernels.embed_kernel: Budget(registers=80 if form == 1 else 168, shared=8192),
        kernels.embed_backward_kernel: Budget(registers=255, shared=32 * 1024),
    }
    for kernel, budget in budgets.items():
        own = {name: kind for name, kind in types.items() if name in kernel.arg_names}
        made = built(kernel, own, constants, num_warps=kernels.WARPS, target=target)
        assert_within(made, budget, tmp_path)
