"""The blocks against transformers' BERT on random weights, and each fast path against its twin."""

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForPreTraining, BertModel

from pretrain.models.attention import fused_attention, mask_bias, plain_attention
from pretrain.models.blocks import BlockShape, Encoder, Pooler, TextEmbeddings
from pretrain.models.heads import MaskedTokenHead

TOLERANCE = 1e-5
SHAPE = BlockShape(hidden=48, heads=4, intermediate=96)


def reference() -> BertForPreTraining:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=200,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    return BertForPreTraining(config).eval()


def text() -> tuple[Tensor, Tensor, Tensor]:
    """Ids, segments and a mask with padding: [3, 11]."""
    torch.manual_seed(1)
    ids = torch.randint(1, 200, (3, 11))
    mask = (torch.arange(11) < torch.tensor([11, 7, 2])[:, None]).long()
    return ids * mask, torch.randint(0, 2, (3, 11)), mask


def encoded(shape: BlockShape, bert: BertModel) -> tuple[list[Tensor], Tensor]:
    """Run our blocks on the reference's weights; return the states and the pooled one."""
    ids, segments, mask = text()
    embeddings = TextEmbeddings(shape, 200, 512, 2).eval()
    encoder = Encoder(shape, 3).eval()
    pooler = Pooler(48).eval()
    embeddings.load_state_dict(bert.embeddings.state_dict())
    encoder.load_state_dict(bert.encoder.state_dict())
    pooler.load_state_dict(bert.pooler.state_dict())
    states = encoder(embeddings(ids, segments), mask_bias(mask, torch.float32))
    return states, pooler(states[-1])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_states_and_pooler_are_those_of_bert(attention: str) -> None:
    bert = reference().bert
    ids, segments, mask = text()
    shape = BlockShape(hidden=48, heads=4, intermediate=96, attention=attention)
    with torch.no_grad():
        states, pooled = encoded(shape, bert)
        wanted = bert(ids, mask, segments, output_hidden_states=True)
    seen = mask.bool()
    assert len(states) == len(wanted.hidden_states) == 4
    for own, other in zip(states, wanted.hidden_states, strict=True):
        assert (own - other)[seen].abs().max() <= TOLERANCE
    assert (pooled - wanted.pooler_output).abs().max() <= TOLERANCE


def test_masked_token_head_is_that_of_bert() -> None:
    model = reference()
    head = MaskedTokenHead(SHAPE, 200).eval()
    weights = model.cls.predictions.state_dict()
    weights.pop("decoder.bias")  # transformers' other name for `bias`
    head.load_state_dict(weights)
    states = torch.randn(5, 48)
    with torch.no_grad():
        assert (head(states) - model.cls.predictions(states)).abs().max() <= TOLERANCE


def test_fused_attention_equals_plain_under_both_kinds_of_mask() -> None:
    torch.manual_seed(2)
    query, key, value = torch.randn(3, 2, 4, 9, 16).unbind()
    rows = (torch.rand(2, 9) > 0.4).long()
    full = torch.tril(torch.ones(9, 9)).expand(2, 9, 9)
    for mask in (rows, full, torch.zeros(2, 9)):
        bias = mask_bias(mask, torch.float32)
        plain = plain_attention(query, key, value, bias, 0.0)
        fused = fused_attention(query, key, value, bias, 0.0)
        assert (plain - fused).abs().max() <= TOLERANCE


def test_mask_adds_minus_ten_thousand() -> None:
    bias = mask_bias(torch.tensor([[1, 0]]), torch.float32)
    assert bias.tolist() == [[[[0.0, -10000.0]]]]


def test_first_position_alone_equals_the_whole_pass() -> None:
    encoder = Encoder(SHAPE, 3).eval()
    states = torch.randn(4, 9, 48)
    mask = (torch.arange(9) < torch.tensor([9, 5, 1, 7])[:, None]).long()
    with torch.no_grad():
        for bias in (None, mask_bias(mask, torch.float32)):
            whole = encoder(states, bias)[-1][:, :1]
            assert (encoder.first_position(states, bias) - whole).abs().max() <= TOLERANCE


def test_history_continues_a_pass_under_a_causal_mask() -> None:
    encoder = Encoder(SHAPE, 3).eval()
    states = torch.randn(2, 6, 48)
    causal = torch.tril(torch.ones(6, 6)).expand(2, 6, 6)
    with torch.no_grad():
        whole = encoder(states, mask_bias(causal, torch.float32))
        history = [reached[:, :4] for reached in whole[:-1]]
        later = encoder(states[:, 4:], mask_bias(causal[:, 4:], torch.float32), history)
    assert (later[-1] - whole[-1][:, 4:]).abs().max() <= TOLERANCE


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for saving in (False, True):
        torch.manual_seed(3)
        encoder = Encoder(SHAPE, 2).train()
        encoder.gradient_checkpointing = saving
        states = torch.randn(2, 5, 48)
        torch.manual_seed(4)
        encoder(states, None)[-1].square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    for plain, saved in zip(*gradients, strict=True):
        assert torch.equal(plain, saved)


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(ValueError, match="does not divide by 5 heads"):
        Encoder(BlockShape(hidden=48, heads=5, intermediate=96), 1)
