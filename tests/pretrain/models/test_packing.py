"""Packed rows give what padded rows give: attention, states, losses and gradients."""

from typing import Any

import pytest
import torch

from data_pipeline.corpus.reader import Corpus
from pretrain import objectives
from pretrain.batches.order import SampleOrder
from pretrain.batches.stored import assembled
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.attention import fused_attention, plain_attention
from pretrain.models.families import family
from pretrain.models.packing import Packing, packed_attention
from tests.pretrain import tiny_corpus

LENGTHS = torch.tensor([[3, 1, 5, 2], [2, 0, 4, 1]])
SETTINGS: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "oscar": (
        {"mlm": 1.0, "contrast": 1.0, "moc": 1.0, "mrfr": 1.0},
        {"img_feature_dim": 38, "object_classes": 8, "feature_head": True},
    ),
    "imagebert": (
        {"mlm": 1.0, "itm": 1.0, "moc": 1.0, "mrfr": 1.0},
        {"img_feature_dim": 32, "object_classes": 8},
    ),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tiny_corpus.write(tmp_path_factory.mktemp("packing"), "packing", 48))


def test_the_stream_holds_each_row_whole() -> None:
    packing = Packing.of(LENGTHS, 11, 18, bound=30)
    assert packing.starts.tolist() == [0, 5, 6, 15, 18]
    assert packing.longest == 9
    assert packing.row.tolist() == [0] * 5 + [1] + [2] * 9 + [3] * 3
    assert packing.text_columns.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4, 0, 1]
    states = torch.arange(18.0)[None, :, None]
    stream = packing.streamed(states)
    assert stream[0, :6, 0].tolist() == [0, 1, 2, 11, 12, 3]
    assert torch.equal(packing.unstreamed(stream), states)
    assert packing.first(stream)[:, 0, 0].tolist() == [0, 3, 4, 9]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_both_forms_of_packed_attention_agree(kind: torch.dtype) -> None:
    packing = Packing.of(LENGTHS, 11, 18, bound=30)
    torch.manual_seed(0)
    parts = [torch.randn(1, 18, 2, 8, dtype=kind, requires_grad=True) for _ in range(3)]
    plain, fast = (
        packed_attention(parts[0], parts[1], parts[2], packing, 0.0, attend)
        for attend in (plain_attention, fused_attention)
    )
    assert torch.allclose(plain, fast, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(plain.square().sum(), parts),
        torch.autograd.grad(fast.square().sum(), parts),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_dropout_acts_in_both_forms() -> None:
    packing = Packing.of(LENGTHS, 11, 18, bound=30)
    parts = [torch.randn(1, 18, 2, 8) for _ in range(3)]
    for attend in (plain_attention, fused_attention):
        whole = packed_attention(parts[0], parts[1], parts[2], packing, 0.0, attend)
        torch.manual_seed(1)
        dropped = packed_attention(parts[0], parts[1], parts[2], packing, 0.5, attend)
        assert not torch.allclose(whole, dropped)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_packed_batch_has_the_loss_of_the_padded_one(
    corpus: Corpus, name: str, attention: str
) -> None:
    wanted, changes = SETTINGS[name]
    tokenizer = train_tokenizer((each.meta["captions"][0]["text"] for each in corpus), 200)
    config = family(name).configuration.of_size(
        "tiny",
        vocab_size=len(tokenizer),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **changes,
    )
    config._attn_implementation = attention
    torch.manual_seed(0)
    model = family(name).pretraining(config)
    places = SampleOrder([len(corpus)], [1.0], 0, "s").indices(0, 24)
    makers = [
        family(name).batches([corpus], tokenizer, config, wanted, 0, "s", **layout)
        for layout in ({}, {"packed": True})
    ]
    losses, gradients = [], []
    for maker in makers:
        batch = assembled(maker.make_stored(places))
        outputs = model(**batch)
        loss, parts = objectives.compute(outputs, batch, wanted)
        losses.append({name: float(part) for name, part in parts.items()})
        model.zero_grad()
        loss.backward()
        grown = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
        gradients.append(torch.cat(grown))
    assert batch["input_ids"].shape[0] == 1
    assert batch["input_ids"].numel() < makers[0].make_stored(places)["input_ids"].numel()
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert torch.allclose(gradients[1], gradients[0], atol=1e-5 * float(gradients[0].norm()))
    # Dealt, the same rows are in other batches: as many in each, none twice.
    dealt = [maker.make_dealt(places, 4, (0, 1, 2, 3)) for maker in makers]  # type: ignore[attr-defined]
    for padded, packed in zip(*dealt, strict=True):
        assert packed["row_lengths"].shape == (2, 6)
        assert torch.equal(packed["masked_labels"], padded["masked_labels"])
    whole = makers[0].make_stored(places)["masked_labels"]
    assert sorted(torch.cat([each["masked_labels"] for each in dealt[0]])) == sorted(whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernels_of_a_gpu_agree() -> None:
    packing = Packing.of(LENGTHS.cuda(), 11, 18, bound=30)
    parts = [torch.randn(1, 18, 2, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    fast = packed_attention(parts[0], parts[1], parts[2], packing, 0.0, fused_attention)
    plain = packed_attention(
        *(part.float() for part in parts), packing=packing, dropout=0.0, attend=plain_attention
    )
    assert torch.allclose(fast.float(), plain, atol=2e-2)
