"""ImageBERT: its count by formula, names, sums, the order of blocks, heads and the way to disk."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close
from transformers import AutoModelForPreTraining

from pretrain.models.imagebert import ImageBertForPreTraining, ImageBertModel
from pretrain.models.imagebert_config import ImageBertConfig
from trawl.errors import RequestError

WORDS = 120


def tiny(**changes: object) -> ImageBertForPreTraining:
    torch.manual_seed(0)
    settings = {
        "vocab_size": WORDS,
        "img_feature_dim": 16,
        "object_classes": 7,
        "initializer_range": 0.1,
        **changes,
    }
    return ImageBertForPreTraining(ImageBertConfig.of_size("tiny", **settings)).eval()


def inputs() -> dict[str, Tensor]:
    """Two pairs of 9 tokens and 4 regions, the second one padded in both."""
    torch.manual_seed(1)
    mask = torch.ones(2, 13, dtype=torch.long)
    mask[1, 6:9] = 0
    mask[1, 11:] = 0
    return {
        "input_ids": torch.randint(5, WORDS, (2, 9)),
        "attention_mask": mask,
        "img_feats": torch.randn(2, 4, 16),
        "img_locations": torch.rand(2, 4, 5),
    }


def test_parameters_are_as_many_as_the_parts_make() -> None:
    hidden, layers, inner, words, positions, segments = 768, 12, 3072, 30522, 512, 2
    feature, location, classes = 2048, 5, 1600

    def linear(ins: int, outs: int) -> int:
        return ins * outs + outs

    norm = 2 * hidden
    text = (words + positions + segments) * hidden + norm
    regions = linear(feature, hidden) + linear(location, hidden) + norm
    layer = 4 * linear(hidden, hidden) + norm + linear(hidden, inner) + linear(inner, hidden) + norm
    pooler = linear(hidden, hidden)
    masked_tokens = linear(hidden, hidden) + norm + words  # the decoder is the word table
    region_heads = linear(hidden, classes) + linear(hidden, feature)
    matching = linear(hidden, 1)
    total = text + regions + layers * layer + pooler + masked_tokens + region_heads + matching
    with torch.device("meta"):
        model = ImageBertForPreTraining(ImageBertConfig.of_size("base"))
    assert sum(parameter.numel() for parameter in model.parameters()) == total == 114_490_747


def test_tensors_beside_oscars_have_the_names_of_the_sheet() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny().state_dict().items()}
    own = {name: shape for name, shape in shapes.items() if ".layer." not in name}
    assert own == {
        "bert.embeddings.word_embeddings.weight": (WORDS, 128),
        "bert.embeddings.position_embeddings.weight": (128, 128),
        "bert.embeddings.token_type_embeddings.weight": (2, 128),
        "bert.embeddings.LayerNorm.weight": (128,),
        "bert.embeddings.LayerNorm.bias": (128,),
        "bert.img_embedding.weight": (128, 16),
        "bert.img_embedding.bias": (128,),
        "bert.img_location_embedding.weight": (128, 5),
        "bert.img_location_embedding.bias": (128,),
        "bert.LayerNorm.weight": (128,),
        "bert.LayerNorm.bias": (128,),
        "bert.pooler.dense.weight": (128, 128),
        "bert.pooler.dense.bias": (128,),
        "cls.predictions.bias": (WORDS,),
        "cls.predictions.transform.dense.weight": (128, 128),
        "cls.predictions.transform.dense.bias": (128,),
        "cls.predictions.transform.LayerNorm.weight": (128,),
        "cls.predictions.transform.LayerNorm.bias": (128,),
        "cls.predictions.decoder.weight": (WORDS, 128),
        "cls.object_classifier.weight": (7, 128),
        "cls.object_classifier.bias": (7,),
        "cls.feature_regressor.weight": (16, 128),
        "cls.feature_regressor.bias": (16,),
        "cls.itm.weight": (1, 128),
        "cls.itm.bias": (1,),
    }


def test_a_region_is_a_normalised_sum_of_four() -> None:
    model, batch = tiny(visual_position=5).bert, inputs()
    with torch.no_grad():
        found = model.embed_regions(batch["img_feats"], batch["img_locations"])
        state = dict(model.named_parameters())
        total = (
            batch["img_feats"] @ state["img_embedding.weight"].T
            + batch["img_locations"] @ state["img_location_embedding.weight"].T
            + state["embeddings.token_type_embeddings.weight"][1]
            + state["embeddings.position_embeddings.weight"][5]
        )
    assert (found - functional.layer_norm(total, (128,), eps=1e-12)).abs().max() <= 1e-5
    assert ImageBertConfig().visual_position == 511


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_order_of_blocks_changes_no_state(attention: str) -> None:
    first, second = tiny(), tiny(block_order="regions-first")
    for model in (first, second):
        model.set_attn_implementation(attention)
    with torch.no_grad():
        one = first(**inputs(), output_hidden_states=True)
        other = second(**inputs(), output_hidden_states=True)
    for name in ("prediction_logits", "object_logits", "feature_predictions", "match_logits"):
        assert (one[name] - other[name]).abs().max() <= 1e-5
    for own, turned in zip(one.hidden_states, other.hidden_states, strict=True):
        assert (own - turned).abs().max() <= 1e-5


@pytest.mark.parametrize("order", ["text-first", "regions-first"])
def test_padding_changes_nothing(order: str) -> None:
    model, batch = tiny(block_order=order), inputs()
    keep = batch["attention_mask"][1].bool()
    short = {
        "input_ids": batch["input_ids"][1:, :6],
        "img_feats": batch["img_feats"][1:, :2],
        "img_locations": batch["img_locations"][1:, :2],
    }
    with torch.no_grad():
        padded, alone = model.bert(**batch), model.bert(**short)
    assert (padded.last_hidden_state[1][keep] - alone.last_hidden_state[0]).abs().max() <= 1e-5
    assert (padded.pooler_output[1] - alone.pooler_output[0]).abs().max() <= 1e-5


def test_regions_have_no_order_but_a_place() -> None:
    model, batch = tiny().bert, inputs()
    batch.pop("attention_mask")
    turned = {**batch, "img_feats": batch["img_feats"].flip(1)}
    both = {**turned, "img_locations": batch["img_locations"].flip(1)}
    with torch.no_grad():
        pooled = [model(**each).pooler_output for each in (batch, turned, both)]
    assert (pooled[0] - pooled[2]).abs().max() <= 1e-5
    assert (pooled[0] - pooled[1]).abs().max() > 1e-3


def test_heads_read_the_places_that_are_asked_for() -> None:
    model = tiny()
    tokens, regions = torch.tensor([1, 8, 9, 14]), torch.tensor([0, 5])
    with torch.no_grad():
        whole = model(**inputs())
        chosen = model(**inputs(), masked_positions=tokens, predicted_regions=regions)
    assert whole.prediction_logits.shape == (2, 9, WORDS)
    assert whole.match_logits.shape == (2, 1)
    for name, places in (
        ("prediction_logits", tokens),
        ("object_logits", regions),
        ("feature_predictions", regions),
    ):
        assert (chosen[name] - whole[name].flatten(0, 1)[places]).abs().max() <= 1e-5
    with torch.no_grad():
        assert torch.equal(model.score(**inputs()), whole.match_logits[:, 0])


def test_what_a_batch_does_not_hold_is_refused() -> None:
    batch = inputs()
    with pytest.raises(TypeError, match="no argument img_feat"):
        tiny()(**batch, img_feat=torch.zeros(1))
    with pytest.raises(ValueError, match="covers 9 positions, text and regions are 13"):
        tiny().bert(**{**batch, "attention_mask": batch["attention_mask"][:, :9]})
    with pytest.raises(ValueError, match="need img_locations"):
        tiny().bert(batch["input_ids"], img_feats=batch["img_feats"])


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        ("large", {}, "no size large; take tiny, base"),
        ("tiny", {"hidden": 3}, "unknown key hidden"),
        ("tiny", {"block_order": "mixed"}, "block_order"),
        ("tiny", {"visual_position": 128}, "need 129 positions"),
        ("tiny", {"max_seq_length": 500}, "need 500 positions"),
    ],
)
def test_wrong_configurations_are_refused(
    size: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        ImageBertConfig.of_size(size, **changes)


def test_the_model_goes_to_disk_and_back(tmp_path: Path) -> None:
    model = tiny(block_order="regions-first")
    model.save_pretrained(tmp_path)
    again = ImageBertForPreTraining.from_pretrained(tmp_path).eval()
    auto = AutoModelForPreTraining.from_pretrained(tmp_path).eval()
    bare = ImageBertModel.from_pretrained(tmp_path).eval()
    assert again.cls.predictions.decoder.weight is again.bert.embeddings.word_embeddings.weight
    assert isinstance(auto, ImageBertForPreTraining)
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    # The same weights elsewhere in memory: some processors' kernels give other last bits.
    with torch.no_grad():
        wanted = model(**inputs())
        for loaded in (again, auto):
            assert_close(loaded(**inputs()).match_logits, wanted.match_logits, rtol=0, atol=1e-6)
        assert_close(bare(**inputs()).pooler_output, wanted.pooler_output, rtol=0, atol=1e-6)
