"""X-VLM: counts by formula, published names, and its layers against two references."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from pretrain.models.xvlm import XvlmForPreTraining, XvlmModel
from pretrain.models.xvlm_config import XvlmConfig
from pretrain.models.xvlm_text import FusionLayer
from tests.pretrain.models.xvlm_inputs import TEXT, VISION, small, whole_batch


def layer_size(hidden: int, inner: int) -> int:
    return 4 * hidden * (hidden + 1) + 2 * hidden * inner + inner + hidden + 4 * hidden


def swin_size(embed: int, depths: list[int], heads: list[int], window: int) -> int:
    total = 3 * 16 * embed + embed + 2 * embed
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        width = embed * 2**stage
        table = (2 * window - 1) ** 2 * count
        attention, mlp = 4 * width * (width + 1), 8 * width * width + 5 * width
        total += depth * (table + attention + mlp + 4 * width)
        if stage + 1 < len(depths):
            total += 8 * width * width + 8 * width
    return total + 2 * embed * 2 ** (len(depths) - 1)


def model_size(config: XvlmConfig) -> int:
    """Count by formula: Swin, BERT with cross-attention in its upper layers, and five heads."""
    hidden, vision, inner = config.hidden_size, config.vision_width, config.intermediate_size
    swin = swin_size(
        config.vision_embed_dim, config.vision_depths, config.vision_heads, config.window_size
    )
    tables = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    cross = 2 * hidden * (hidden + 1) + 2 * hidden * (vision + 1) + 2 * hidden
    bert = (tables + 2) * hidden + config.num_hidden_layers * layer_size(hidden, inner)
    bert += (config.num_hidden_layers - config.fusion_layer) * cross
    masked_tokens = hidden * (hidden + 1) + 2 * hidden + config.vocab_size
    contrast = (vision + 1 + hidden + 1) * config.embed_dim + 1

    def head(outputs: int) -> int:
        return 2 * hidden * (hidden + 1) + 4 * hidden + (2 * hidden + 1) * outputs

    return swin + bert + masked_tokens + contrast + head(2) + head(4)


@pytest.mark.parametrize(("size", "count"), [("base", 215_637_241), ("large", None)])
def test_parameters_are_as_many_as_the_formula_says(size: str, count: int | None) -> None:
    config = XvlmConfig.of_size(size)
    with torch.device("meta"):
        model = XvlmForPreTraining(config)
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == model_size(config)
    assert count in (None, found)  # the paper says about 216 million for base


def test_state_dict_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = XvlmForPreTraining(XvlmConfig())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    block, text = "vision_encoder.layers.2.blocks.17.", "text_encoder.bert.encoder.layer."
    expected = {
        "vision_encoder.patch_embed.proj.weight": (128, 3, 4, 4),
        "vision_encoder.patch_embed.norm.bias": (128,),
        f"{block}norm1.weight": (512,),
        f"{block}attn.relative_position_bias_table": (169, 16),
        f"{block}attn.relative_position_index": (49, 49),
        f"{block}attn.qkv.weight": (1536, 512),
        f"{block}attn.proj.bias": (512,),
        f"{block}attn_mask": (4, 49, 49),
        f"{block}mlp.fc1.weight": (2048, 512),
        f"{block}mlp.fc2.weight": (512, 2048),
        "vision_encoder.layers.0.blocks.1.attn_mask": (64, 49, 49),
        "vision_encoder.layers.2.downsample.norm.weight": (2048,),
        "vision_encoder.layers.2.downsample.reduction.weight": (1024, 2048),
        "vision_encoder.norm.weight": (1024,),
        "text_encoder.bert.embeddings.word_embeddings.weight": (30522, 768),
        "text_encoder.bert.embeddings.LayerNorm.weight": (768,),
        f"{text}0.attention.self.query.weight": (768, 768),
        f"{text}6.crossattention.self.query.weight": (768, 768),
        f"{text}6.crossattention.self.key.weight": (768, 1024),
        f"{text}11.crossattention.self.value.weight": (768, 1024),
        f"{text}11.crossattention.output.dense.weight": (768, 768),
        f"{text}11.crossattention.output.LayerNorm.bias": (768,),
        "text_encoder.cls.predictions.bias": (30522,),
        "text_encoder.cls.predictions.transform.dense.weight": (768, 768),
        "text_encoder.cls.predictions.transform.LayerNorm.weight": (768,),
        "text_encoder.cls.predictions.decoder.weight": (30522, 768),
        "vision_proj.weight": (256, 1024),
        "text_proj.weight": (256, 768),
        "temp": (),
        "itm_head.0.weight": (1536, 768),
        "itm_head.1.weight": (1536,),
        "itm_head.3.weight": (2, 1536),
        "bbox_head.3.bias": (4,),
    }
    assert expected.items() <= shapes.items()
    assert not any("pooler" in name for name in shapes)
    assert f"{text}5.crossattention.self.key.weight" not in shapes
    assert "vision_encoder.layers.3.blocks.1.attn_mask" not in shapes
    assert "vision_encoder.layers.3.downsample.norm.weight" not in shapes
    outside = ("vision_encoder.", "text_encoder.", "vision_proj.", "text_proj.", "itm_head.")
    rest = {name for name in shapes if not name.startswith((*outside, "bbox_head."))}
    assert rest == {"temp"}


def reference_attention(
    weights: dict[str, Tensor], name: str, queries: Tensor, keys: Tensor, bias: Tensor, heads: int
) -> Tensor:
    """Attention and its residual output, head by head, the query divided before the product."""

    def project(part: str, states: Tensor) -> Tensor:
        return functional.linear(
            states, weights[f"{name}.self.{part}.weight"], weights[f"{name}.self.{part}.bias"]
        )

    query, key, value = project("query", queries), project("key", keys), project("value", keys)
    size = query.shape[-1] // heads
    found = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = (query[..., part] / math.sqrt(size)) @ key[..., part].transpose(1, 2)
        found.append((scores + bias[:, None, :]).softmax(dim=-1) @ value[..., part])
    return reference_output(weights, f"{name}.output", torch.cat(found, dim=-1), queries)


def reference_output(
    weights: dict[str, Tensor], name: str, states: Tensor, residual: Tensor
) -> Tensor:
    dense = functional.linear(
        states, weights[f"{name}.dense.weight"], weights[f"{name}.dense.bias"]
    )
    mixed = dense + residual
    mean, spread = mixed.mean(-1, keepdim=True), mixed.var(-1, unbiased=False, keepdim=True)
    normed = (mixed - mean) / torch.sqrt(spread + 1e-12)
    return normed * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]


def reference_layer(
    weights: dict[str, Tensor], states: Tensor, bias: Tensor, image: Tensor, image_bias: Tensor
) -> Tensor:
    states = reference_attention(weights, "attention", states, states, bias, 4)
    if "crossattention.self.query.weight" in weights:
        states = reference_attention(weights, "crossattention", states, image, image_bias, 4)
    inner = functional.linear(
        states, weights["intermediate.dense.weight"], weights["intermediate.dense.bias"]
    )
    widened = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return reference_output(weights, "output", widened, states)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_text_and_cross_layers_compute_what_a_plain_reference_does(attention: str) -> None:
    model = small()
    model.config._attn_implementation = attention
    batch = {name: tensor for name, tensor in whole_batch().items() if name in VISION + TEXT}
    encoders = XvlmModel(model.config).eval()
    encoders.load_state_dict(model.state_dict(), strict=False)
    found = encoders(**batch)
    bias = (1 - batch["attention_mask"].float()) * -10000
    image_bias = (1 - batch["image_atts"].float()) * -1e9
    states = [*found.text_hidden_states, *found.fused_hidden_states[1:]]
    state = encoders.state_dict()
    for number in range(4):
        prefix = f"text_encoder.bert.encoder.layer.{number}."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        wanted = reference_layer(
            weights, states[number], bias, found.image_hidden_state, image_bias
        )
        assert (states[number + 1] - wanted).abs().max() < 1e-5
    assert torch.equal(found.last_hidden_state, states[-1])


def test_a_fusion_layer_is_berts_layer_with_cross_attention() -> None:
    config = XvlmConfig.of_size("tiny", vision_embed_dim=32)
    layer = FusionLayer(config.block_shape(), 128).eval()
    settings = BertConfig(
        hidden_size=128,
        num_attention_heads=4,
        intermediate_size=512,
        is_decoder=True,
        add_cross_attention=True,
        attn_implementation="eager",
    )
    theirs = BertLayer(settings).eval()
    torch.manual_seed(2)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.load_state_dict(layer.state_dict())
    text, image = torch.randn(2, 7, 128), torch.randn(2, 5, 128)
    bias, image_bias = torch.zeros(2, 1, 1, 7), torch.zeros(2, 1, 1, 5)
    bias[1, ..., 4:], image_bias[0, ..., 2:] = -10000, -1e9
    expected = theirs(text, bias, image, image_bias)
    assert (layer(text, bias, image, image_bias) - expected).abs().max() < 1e-5
