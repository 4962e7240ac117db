"""A packed batch of each family has the losses and the gradients of the padded one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from data_pipeline.corpus.reader import Corpus
from pretrain import construction, objectives
from pretrain.batches.order import Place, SampleOrder
from pretrain.batches.stored import assembled
from pretrain.batches.tokenise import train_tokenizer
from pretrain.measured import Measured
from pretrain.models.families import family
from pretrain.recipe import PretrainRecipe
from tests.pretrain import runs, tiny_corpus

KINDS, COLOURS, FEATURES = (
    len(tiny_corpus.KINDS),
    len(tiny_corpus.COLOURS),
    tiny_corpus.FEATURES,
)
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VILBERT = {
    "v_feature_size": FEATURES,
    "v_target_size": KINDS,
    "v_hidden_dropout_prob": 0.0,
    "v_attention_probs_dropout_prob": 0.0,
    "fusion_dropout_prob": 0.0,
    "max_regions": 3,
}
LXMERT = {
    "visual_feat_dim": FEATURES,
    "num_object_labels": KINDS,
    "num_attr_labels": COLOURS,
    "region_count": "sound",
    "answers": list(tiny_corpus.COLOURS),
}
XVLM = {"image_size": 64, "vision_embed_dim": 8, "window_size": 2, "embed_dim": 16}
# The objectives of the demo's recipes and of the published ones, in the forms that differ.
SETTINGS: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {
    "oscar": (
        "oscar",
        ("mlm", "contrast", "moc", "mrfr"),
        {"img_feature_dim": FEATURES + 6, "object_classes": KINDS, "feature_head": True},
    ),
    "oscar without heads of regions": (
        "oscar",
        ("mlm", "contrast"),
        {"img_feature_dim": FEATURES + 6},
    ),
    "imagebert": (
        "imagebert",
        ("mlm", "itm", "moc", "mrfr"),
        {"img_feature_dim": FEATURES, "object_classes": KINDS, "tags": True},
    ),
    "vilbert": (
        "vilbert",
        ("mlm", "itm", "contrast", "moc"),
        {**VILBERT, "v_target_size": KINDS + 1, "tags": True, "contrast_head": True},
    ),
    "vilbert with tasks": (
        "vilbert",
        ("mlm", "itm", "moc-kl"),
        {**VILBERT, "task_specific_tokens": True},
    ),
    "lxmert": (
        "lxmert",
        ("mlm", "itm", "contrast", "moc-confidence", "attributes"),
        {**LXMERT, "tags": True, "contrast_head": True, "region_losses": "sound"},
    ),
    "lxmert as published": (
        "lxmert",
        ("mlm", "itm", "moc-confidence", "attributes", "mrfr-smooth-l1", "qa"),
        LXMERT,
    ),
    "xvlm of images": ("xvlm", ("itc", "itm-hard", "mlm"), XVLM),
    "xvlm of regions": (
        "xvlm",
        ("itc", "itm-hard", "mlm", "bbox"),
        {**XVLM, "region_share": 1.0, "region_padding": "sound"},
    ),
}
Made = tuple[PreTrainedModel, list[dict[str, Tensor]], dict[str, float]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    extras = {"class_probs": KINDS, "images": True, "regions_text": True, "questions": True}
    folder = tmp_path_factory.mktemp("packing")
    return Corpus(tiny_corpus.write(folder, "packing", 24, unsure=True, **extras))


def made(
    corpus: Corpus, name: str, wanted: Sequence[str], changes: Mapping[str, Any], samples: int = 12
) -> Made:
    """A model, and the same samples padded and packed."""
    weights = dict.fromkeys(wanted, 1.0)
    tokenizer = train_tokenizer((each.meta["captions"][0]["text"] for each in corpus), 200)
    attention = changes.get("attention", "sdpa")
    settings = {key: value for key, value in changes.items() if key != "attention"}
    config = family(name).configuration.of_size(
        "tiny", vocab_size=len(tokenizer), max_seq_length=24, **PLAIN, **settings
    )
    config._attn_implementation = attention
    torch.manual_seed(0)
    model = family(name).pretraining(config)
    makers = [
        family(name).batches([corpus], tokenizer, config, weights, 0, "s", **layout)
        for layout in ({}, {"packed": True})
    ]
    where = places(corpus, samples)
    return model, [assembled(maker.make_stored(where)) for maker in makers], weights


def places(corpus: Corpus, samples: int) -> Sequence[Place]:
    return SampleOrder([len(corpus)], [1.0], 0, "s").indices(0, samples)


def learned(
    model: PreTrainedModel, batch: dict[str, Tensor], weights: dict[str, float]
) -> tuple[dict[str, float], Tensor]:
    """The losses of a batch, and the gradient of all parameters that have one."""
    model.zero_grad()
    loss, parts = objectives.compute(model(**batch), batch, weights)
    loss.backward()
    grown = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
    return {name: float(part) for name, part in parts.items()}, torch.cat(grown)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_packed_batch_teaches_what_the_padded_one_does(
    corpus: Corpus, setting: str, attention: str
) -> None:
    name, wanted, changes = SETTINGS[setting]
    model, (padded, packed), weights = made(
        corpus, name, wanted, {**changes, "attention": attention}
    )
    assert packed["input_ids"].shape[0] == 1
    assert packed["input_ids"].numel() < padded["input_ids"].numel()
    assert not any(key.endswith("_mask") for key in packed)
    (losses, gradient), (others, other) = (
        learned(model, batch, weights) for batch in (padded, packed)
    )
    assert set(losses) == set(wanted)
    assert others == pytest.approx(losses, abs=1e-5)
    assert torch.allclose(other, gradient, atol=1e-5 * float(gradient.norm()))


@pytest.mark.parametrize("setting", ["oscar", "imagebert", "vilbert", "lxmert", "xvlm of images"])
def test_the_recipe_s_key_packs_and_fills_passes(corpus: Corpus, setting: str) -> None:
    name, _, changes = SETTINGS[setting]
    content = runs.recipe(corpus.uri, corpus.uri, "run")
    content["stages"][0]["objectives"] = {"mlm": 1.0}
    content["stages"][0]["batch"] = {
        "samples": 8,
        "tokens_per_micro_batch": 200,
        "packing": "packed",
    }
    recipe = PretrainRecipe.model_validate(content)
    tokenizer = train_tokenizer((each.meta["captions"][0]["text"] for each in corpus), 200)
    config = family(name).configuration.of_size("tiny", vocab_size=len(tokenizer), **changes)
    order = SampleOrder([len(corpus)], [1.0], 0, "s")
    maker = construction.batches(recipe, recipe.stages[0], [corpus], tokenizer, config)
    batch = maker.make_stored(order.indices(0, 8))
    assert batch["row_lengths"].shape[1] == 8
    lengths = construction.sample_lengths(recipe.stages[0], maker, order, config.longest_sample)
    assert lengths.mean is not None
    assert 0 < lengths.mean < config.longest_sample


@pytest.mark.parametrize("setting", ["oscar", "imagebert", "vilbert with tasks", "lxmert"])
def test_heads_that_read_everything_say_the_same_at_the_places(
    corpus: Corpus, setting: str
) -> None:
    model, (_, packed), _ = made(corpus, *SETTINGS[setting])
    model.eval()
    with torch.no_grad():
        some = model(**packed)
        whole = model(**packed, output_hidden_states=True)
        score = model.score(**packed)
    for key in ("prediction_logits", "object_logits", "pooler_output"):
        assert torch.allclose(some[key], whole[key], atol=1e-5), key
    # The score reads the pooled states alone.
    assert score.shape == (packed["row_lengths"].shape[1],)


@pytest.mark.parametrize("setting", SETTINGS)
def test_packed_batches_count_as_padded_ones_do(corpus: Corpus, setting: str) -> None:
    _, batches, _ = made(corpus, *SETTINGS[setting])
    counts = []
    for batch in batches:
        measured = Measured([])
        measured.count(batch)
        counts.append(measured.counts)
    assert counts[0] == counts[1]
    assert counts[0]["text"] > 0


@pytest.mark.parametrize("name", ["oscar", "imagebert", "vilbert", "lxmert"])
def test_an_image_may_have_no_regions(tmp_path: Path, name: str) -> None:
    empty = Corpus(tiny_corpus.write(tmp_path / "c", "empty", 12, regions=False))
    _, _, changes = SETTINGS[name]
    model, (padded, packed), weights = made(empty, name, ("mlm",), changes)
    (losses, gradient), (others, other) = (
        learned(model, batch, weights) for batch in (padded, packed)
    )
    assert others == pytest.approx(losses, abs=1e-5)
    assert torch.allclose(other, gradient, atol=1e-5 * float(gradient.norm()))


@pytest.mark.parametrize("name", ["oscar", "imagebert", "vilbert", "lxmert"])
def test_dealt_batches_hold_the_same_rows(corpus: Corpus, name: str) -> None:
    _, wanted, changes = SETTINGS[name]
    tokenizer = train_tokenizer((each.meta["captions"][0]["text"] for each in corpus), 200)
    config = family(name).configuration.of_size("tiny", vocab_size=len(tokenizer), **changes)
    weights = dict.fromkeys(wanted, 1.0)
    makers: list[Any] = [
        family(name).batches([corpus], tokenizer, config, weights, 0, "s", **layout)
        for layout in ({}, {"packed": True})
    ]
    rows = SampleOrder([len(corpus)], [1.0], 0, "s").indices(0, 24)
    dealt = [maker.make_dealt(rows, 4, (0, 1, 2, 3)) for maker in makers]
    for padded, packed in zip(*dealt, strict=True):
        assert packed["row_lengths"].shape == (2, 6)
        assert torch.equal(packed["masked_labels"], padded["masked_labels"])
    whole = makers[0].make_stored(rows)["masked_labels"]
    assert sorted(torch.cat([each["masked_labels"] for each in dealt[0]])) == sorted(whole)
    tokens = [int(packed["row_lengths"].sum()) for packed in dealt[1]]
    assert sum(tokens) == sum(makers[0].lengths(rows))
    assert max(tokens) - min(tokens) <= max(makers[0].lengths(rows))
