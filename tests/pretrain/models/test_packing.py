"""Packed rows: the stream, the attention that stays in a row, and the last layer's places."""

import pytest
import torch

from pretrain.models.attention import fused_attention, plain_attention
from pretrain.models.blocks import BlockShape, Encoder
from pretrain.models.packing import Asked, Between, Packed, Packing, Rows, packed_attention

LENGTHS = torch.tensor([[3, 1, 5, 2], [2, 0, 4, 1]])
ROWS = Rows.of(LENGTHS.sum(0))
OTHERS = Rows.of(torch.tensor([1, 7, 2, 3]))


def test_the_stream_holds_each_row_whole() -> None:
    packing = Packing.of(LENGTHS, 11, 18, bound=30)
    rows = packing.rows
    assert rows.starts.tolist() == [0, 5, 6, 15, 18]
    assert rows.longest == 9
    assert rows.row.tolist() == [0] * 5 + [1] + [2] * 9 + [3] * 3
    assert packing.first_columns.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4, 0, 1]
    states = torch.arange(18.0)[None, :, None]
    stream = packing.streamed(states)
    assert stream[0, :6, 0].tolist() == [0, 1, 2, 11, 12, 3]
    assert torch.equal(packing.unstreamed(stream), states)
    assert rows.first(stream)[:, 0, 0].tolist() == [0, 3, 4, 9]


def test_rows_can_be_chosen_and_thinned() -> None:
    rows, places = ROWS.chosen(torch.tensor([3, 1, 3]))
    assert rows.starts.tolist() == [0, 3, 4, 7]
    assert places.tolist() == [15, 16, 17, 5, 15, 16, 17]
    thin = ROWS.part(torch.tensor([0, 4, 6, 6, 17]))
    assert thin.lengths.tolist() == [2, 0, 2, 1]
    assert thin.row.tolist() == [0, 0, 2, 2, 3]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("sight", [ROWS, Between(ROWS, OTHERS), Between(OTHERS, ROWS)])
@pytest.mark.parametrize("size", [8, 1024])
def test_all_forms_of_packed_attention_agree(sight: Packed, kind: torch.dtype, size: int) -> None:
    asking, offering = (sight, sight) if isinstance(sight, Rows) else (sight.asking, sight.offering)
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(1, len(rows.row), 2, size, dtype=kind, requires_grad=True)
        for rows in (asking, offering, offering)
    )
    plain, fast = (
        packed_attention(query, key, value, sight, 0.0, attend)
        for attend in (plain_attention, fused_attention)
    )
    assert torch.allclose(plain, fast, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(plain.square().sum(), (query, key, value)),
        torch.autograd.grad(fast.square().sum(), (query, key, value)),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-5 * float(one.abs().max()))


def test_dropout_acts_in_both_forms() -> None:
    parts = [torch.randn(1, 18, 2, 8) for _ in range(3)]
    for attend in (plain_attention, fused_attention):
        whole = packed_attention(parts[0], parts[1], parts[2], ROWS, 0.0, attend)
        torch.manual_seed(1)
        dropped = packed_attention(parts[0], parts[1], parts[2], ROWS, 0.5, attend)
        assert not torch.allclose(whole, dropped)


def test_the_last_layer_computes_the_places_asked_and_gives_what_all_give() -> None:
    torch.manual_seed(0)
    encoder = Encoder(BlockShape(hidden=16, heads=2, intermediate=32), layers=2).eval()
    states = torch.randn(1, 18, 16)
    places = torch.tensor([9, 2, 9, 17])
    asked = Asked.at(ROWS, places)
    assert asked.places.tolist() == [0, 2, 5, 6, 9, 9, 15, 17]
    found = asked.ordered(encoder.at(states, ROWS, asked))
    whole = encoder(states, ROWS)[-1]
    assert torch.allclose(found[0, :4], whole[0, ROWS.firsts], atol=1e-6)
    assert torch.allclose(found[0, 4:], whole[0, places], atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernels_of_a_gpu_agree() -> None:
    rows = Rows.of(LENGTHS.sum(0).cuda(), 18, bound=30)
    others = Rows.of(OTHERS.lengths.cuda(), 13, bound=30)
    for offering in (rows, others):
        sight = Between(rows, offering)
        parts = [
            torch.randn(1, len(each.row), 2, 64, device="cuda", dtype=torch.bfloat16)
            for each in (rows, offering, offering)
        ]
        fast = packed_attention(parts[0], parts[1], parts[2], sight, 0.0, fused_attention)
        query, key, value = (part.float() for part in parts)
        plain = packed_attention(query, key, value, sight, 0.0, plain_attention)
        assert torch.allclose(fast.float(), plain, atol=2e-2)
