"""Region embedding: from features as the corpus stores them to rows of the packed stream.

One product, which reads int8 or float16 features as they are, and one pass over its rows: the
linear layer of the boxes, LayerNorm, dropout, and the place in the stream. The families differ in
`Layers`:

- Oscar: one linear layer of feature and box joined is the sum of two; a norm where it has one.
- ImageBERT: the sum of feature, box, segment and position, normalised.
- ViLBERT: the sum of feature and box, normalised.
- LXMERT: the mean of feature and box, each normalised.
- X-VLM reads no regions: its patches are a convolution's, which torch has.

`embedded` is the kernels' way (`region_projection_kernel`, `region_rows_kernel`), or plain torch
that computes the same in float32. Both agree within 1e-5 in float32 and within the rounding of the
type elsewhere (tests/pretrain/kernels/test_region_embedding.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pretrain.kernels.counter_dropout import Places, dropped, scale, threshold

_SUM, _NORMALISED, _MEAN = 0, 1, 2


@dataclass(frozen=True)
class Layers:
    """The parameters of a family's region embedding.

    weight [width, size] projects features and box_weight [width, 4 to 7] boxes; offset float32
    [width]: all that is added to both, biases first; gain, shift [width]: of the LayerNorm, if any.
    With box_gain and box_shift the boxes have a norm of their own and the mean of both is taken;
    box_offset float32 [width] is then what is added to the boxes.
    """

    weight: Tensor
    box_weight: Tensor
    offset: Tensor
    gain: Tensor | None = None
    shift: Tensor | None = None
    epsilon: float = 1e-12
    box_offset: Tensor | None = None
    box_gain: Tensor | None = None
    box_shift: Tensor | None = None


@dataclass(frozen=True)
class Dropout:
    """The dropout of embedded regions: its probability, its number in the model, whose they are.

    of: samples and tokens [regions].
    """

    probability: float
    site: int
    of: Places


def project_plain(values: Tensor, scales: Tensor | None, weight: Tensor) -> Tensor:
    """Return features [regions, size] projected to [regions, width] in the weight's type.

    values int8 with scales [regions], or floating; weight [width, size].
    """
    features = values.float()
    if scales is not None:
        features = features * scales.float()[:, None]
    return functional.linear(features.to(weight.dtype), weight)


def rows_plain(
    projected: Tensor, boxes: Tensor, layers: Layers, dropout: Dropout | None = None
) -> Tensor:
    """Return embedded regions [regions, width] from projected features and boxes, the reference.

    Computed in float32 and rounded once; boxes [regions, numbers].
    """
    total = projected.float() + layers.offset
    placed = boxes.float() @ layers.box_weight.float().t()
    width = (projected.shape[1],)

    def norm(values: Tensor, gain: Tensor, shift: Tensor | None) -> Tensor:
        assert shift is not None
        return functional.layer_norm(values, width, gain.float(), shift.float(), layers.epsilon)

    if layers.box_gain is not None:
        assert layers.gain is not None
        assert layers.box_offset is not None
        seen = norm(total, layers.gain, layers.shift)
        placed = norm(placed + layers.box_offset, layers.box_gain, layers.box_shift)
        total = (seen + placed) / 2
    else:
        total = total + placed
        if layers.gain is not None:
            total = norm(total, layers.gain, layers.shift)
    if dropout is not None:
        total = dropped(total, dropout.of, dropout.site, dropout.probability)
    return total.to(projected.dtype)


def projected_features(
    values: Tensor, scales: Tensor | None, weight: Tensor, implementation: str
) -> Tensor:
    """Return what `project_plain` returns, by the `implementation` plain or triton."""
    if implementation == "plain":
        return project_plain(values, scales, weight)
    made: Tensor = _project(
        values.contiguous(), None if scales is None else scales.contiguous(), weight.contiguous()
    )
    return made


def embedded_rows(
    projected: Tensor,
    boxes: Tensor,
    layers: Layers,
    implementation: str,
    dropout: Dropout | None = None,
    text: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """Return the stream [texts + regions, width] of embedded text and regions.

    projected [regions, width]; boxes [regions, numbers]; text [texts, width], nothing: none;
    places int64 [texts + regions]: where each text and then each region stands in the stream,
    nothing: one after another. No gradient is computed for the boxes.
    """
    text = projected[:0] if text is None else text
    if implementation == "plain":
        rows = torch.cat([text, rows_plain(projected, boxes, layers, dropout)])
        return rows if places is None else torch.empty_like(rows).index_copy(0, places, rows)
    form = _SUM if layers.gain is None else _NORMALISED if layers.box_gain is None else _MEAN
    vectors = (layers.gain, layers.shift, layers.box_offset, layers.box_gain, layers.box_shift)
    drawn = dropout if dropout is not None and dropout.probability > 0 else None
    stream: Tensor = _embed(
        projected.contiguous(),
        boxes.float().contiguous(),
        layers.box_weight.t().contiguous(),
        layers.offset.float(),
        *(None if vector is None else vector.float().contiguous() for vector in vectors),
        text.contiguous(),
        places,
        None if drawn is None else drawn.of.seed,
        None if drawn is None else drawn.of.samples.flatten().contiguous(),
        None if drawn is None else drawn.of.tokens.flatten().contiguous(),
        layers.epsilon,
        0.0 if drawn is None else drawn.probability,
        form,
        0 if drawn is None else drawn.site,
    )[0]
    return stream


@torch.library.custom_op("trawl::region_projection", mutates_args=())
def _project(values: Tensor, scales: Tensor | None, weight: Tensor) -> Tensor:
    from pretrain.kernels.region_projection_kernel import project_by_kernel

    return project_by_kernel(values, scales, weight)


@_project.register_fake
def _(values: Tensor, scales: Tensor | None, weight: Tensor) -> Tensor:
    return weight.new_empty(values.shape[0], weight.shape[0])


@torch.library.custom_op("trawl::region_projection_backward", mutates_args=())
def _project_backward(incoming: Tensor, values: Tensor, scales: Tensor | None) -> Tensor:
    from pretrain.kernels.region_projection_kernel import weight_gradient_by_kernel

    return weight_gradient_by_kernel(incoming.contiguous(), values, scales)


@_project_backward.register_fake
def _(incoming: Tensor, values: Tensor, scales: Tensor | None) -> Tensor:
    return incoming.new_empty(incoming.shape[1], values.shape[1])


def _keep_features(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _differentiate_projection(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
    return None, None, _project_backward(incoming, *ctx.saved_tensors)


_project.register_autograd(_differentiate_projection, setup_context=_keep_features)


@torch.library.custom_op("trawl::region_rows", mutates_args=())
def _embed(
    projected: Tensor,
    boxes: Tensor,
    box_weight: Tensor,
    offset: Tensor,
    gain: Tensor | None,
    shift: Tensor | None,
    box_offset: Tensor | None,
    box_gain: Tensor | None,
    box_shift: Tensor | None,
    text: Tensor,
    places: Tensor | None,
    seed: Tensor | None,
    samples: Tensor | None,
    tokens: Tensor | None,
    epsilon: float,
    probability: float,
    form: int,
    site: int,
) -> tuple[Tensor, Tensor]:
    from pretrain.kernels.region_rows_kernel import embed_by_kernel

    vectors = [box_weight, offset, gain, shift, box_offset, box_gain, box_shift]
    return embed_by_kernel(
        projected,
        boxes,
        vectors,
        text,
        places,
        _drawn(seed, samples, tokens),
        (epsilon, scale(probability)),
        {"form": form, "site": site, "threshold": threshold(probability)},
    )


def _drawn(
    seed: Tensor | None, samples: Tensor | None, tokens: Tensor | None
) -> tuple[Tensor, Tensor, Tensor] | None:
    if seed is None or samples is None or tokens is None:
        return None
    return seed, samples, tokens


@_embed.register_fake
def _(projected: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    text, (regions, width) = rest[8], projected.shape
    stream = projected.new_empty(text.shape[0] + regions, width)
    return stream, projected.new_empty(4, regions, dtype=torch.float32)


@torch.library.custom_op("trawl::region_rows_backward", mutates_args=())
def _embed_backward(
    incoming: Tensor,
    projected: Tensor,
    boxes: Tensor,
    box_weight: Tensor,
    offset: Tensor,
    gain: Tensor | None,
    box_offset: Tensor | None,
    box_gain: Tensor | None,
    places: Tensor | None,
    seed: Tensor | None,
    samples: Tensor | None,
    tokens: Tensor | None,
    statistics: Tensor,
    probability: float,
    form: int,
    site: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of projected, box_weight and offsets [2, width], and the norms' sums."""
    from pretrain.kernels.region_rows_kernel import embed_backward_by_kernel

    of_projected, of_boxes, sums = embed_backward_by_kernel(
        incoming.contiguous(),
        projected,
        boxes,
        [box_weight, offset, gain, box_offset, box_gain],
        places,
        _drawn(seed, samples, tokens),
        statistics,
        scale(probability),
        {"form": form, "site": site, "threshold": threshold(probability)},
    )
    of_weight = boxes.to(of_boxes.dtype).t() @ of_boxes
    offsets = [of_projected.sum(0, dtype=torch.float32)]
    offsets.append(of_boxes.sum(0, dtype=torch.float32) if form == _MEAN else offsets[0])
    return of_projected, of_weight.to(box_weight.dtype), torch.stack(offsets), sums


@_embed_backward.register_fake
def _(incoming: Tensor, projected: Tensor, boxes: Tensor, box_weight: Tensor, *_: Any) -> Any:
    width = projected.shape[1]
    offsets, sums = (projected.new_empty(n, width, dtype=torch.float32) for n in (2, 3))
    return torch.empty_like(projected), torch.empty_like(box_weight), offsets, sums


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    projected, boxes, box_weight, offset, gain, _, box_offset, box_gain, _, text, *rest = inputs
    places, seed, samples, tokens, _, ctx.probability, ctx.form, ctx.site = rest
    ctx.texts = text.shape[0]
    ctx.mark_non_differentiable(output[1])
    kept = (projected, boxes, box_weight, offset, gain, box_offset, box_gain, places)
    ctx.save_for_backward(*kept, seed, samples, tokens, output[1])


def _differentiate_rows(ctx: Any, incoming: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    of_projected, of_weight, offsets, sums = _embed_backward(
        incoming, *saved, ctx.probability, ctx.form, ctx.site
    )
    of_text = None
    if ctx.needs_input_grad[9]:
        places = saved[7]
        chosen = incoming[: ctx.texts] if places is None else incoming[places[: ctx.texts]]
        of_text = chosen.contiguous()
    normed, mean = ctx.form != _SUM, ctx.form == _MEAN
    return (
        of_projected,
        None,
        of_weight,
        offsets[0],
        sums[0] if normed else None,
        sums[1] if normed else None,
        offsets[1] if mean else None,
        sums[2] if mean else None,
        sums[1] if mean else None,
        of_text,
        *[None] * 8,
    )


_embed.register_autograd(_differentiate_rows, setup_context=_keep_rows)
