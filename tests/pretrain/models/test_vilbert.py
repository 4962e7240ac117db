"""ViLBERT: counts, names, order, masks, heads, and an independent forward pass to compare with."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pretrain.models.vilbert import ViLBertForPreTraining, ViLBertModel
from pretrain.models.vilbert_config import ViLBertConfig
from pretrain.objectives import compute
from tests.pretrain.models.vilbert_reference import published_shapes, reference
from trawl.errors import RequestError

WORDS = 60
FEATURES = 10
CLASSES = 7
# The published depth and order, with widths that all differ.
NARROW = {
    "vocab_size": WORDS,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 36,
    "v_feature_size": FEATURES,
    "v_target_size": CLASSES,
    "v_hidden_size": 32,
    "v_num_attention_heads": 4,
    "v_intermediate_size": 28,
    "bi_hidden_size": 16,
    "bi_num_attention_heads": 2,
    "initializer_range": 0.2,
}


def narrow(**changes: object) -> ViLBertForPreTraining:
    """A model of the published depth in which no tensor is trivial, biases and gains included."""
    torch.manual_seed(0)
    model = ViLBertForPreTraining(ViLBertConfig(**{**NARROW, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def inputs() -> dict[str, Tensor]:
    """Two pairs of 9 tokens and 1 + 5 regions, the second one padded in both."""
    torch.manual_seed(1)
    text_mask, region_mask = torch.ones(2, 9).long(), torch.ones(2, 6).long()
    text_mask[1, 6:] = 0
    region_mask[1, 4:] = 0
    return {
        "input_ids": torch.randint(5, WORDS, (2, 9)),
        "features": torch.randn(2, 6, FEATURES),
        "locations": torch.rand(2, 6, 5),
        "token_type_ids": torch.randint(0, 2, (2, 9)),
        "attention_mask": text_mask,
        "region_mask": region_mask,
    }


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("tasks", [False, True])
def test_the_forward_pass_is_the_published_one(kernel: str, tasks: bool) -> None:
    model = narrow(task_specific_tokens=tasks, attn_implementation=kernel)
    batch = inputs()
    if tasks:
        batch["task_ids"] = torch.tensor([[3], [11]])
    expected = reference(model.state_dict(), batch)
    with torch.no_grad():
        heads, states = model(**batch), model.bert(**batch)
    for name, value in expected.items():
        got = states[name] if "states" in name else heads[name]
        assert got.shape == value.shape
        assert (got - value).abs().max() <= 1e-5 * value.abs().max().clamp(min=1), name


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 250_044_029), ({"task_specific_tokens": True}, 250_044_029 + 20 * 768)],
)
def test_parameters_are_as_many_as_published(changes: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        model = ViLBertForPreTraining(ViLBertConfig.of_size("base", **changes))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    connected = model.bert.encoder.c_layer[0].parameters()
    assert sum(parameter.numel() for parameter in connected) == 16_013_568


def test_state_dict_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = ViLBertForPreTraining(ViLBertConfig(task_specific_tokens=True))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == published_shapes()


def test_the_unused_layers_change_nothing() -> None:
    model = narrow()
    with torch.no_grad():
        before = model(**inputs())
        for name, parameter in model.named_parameters():
            if "q_dense" in name:
                parameter.add_(1)
        after = model(**inputs())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_lower_text_layers_do_not_see_the_image() -> None:
    model = narrow()
    batch = inputs()
    other = {**batch, "features": batch["features"] + 1}
    with torch.no_grad():
        one = model.bert(**batch, output_hidden_states=True)
        two = model.bert(**other, output_hidden_states=True)
    same = [
        torch.equal(a, b)
        for a, b in zip(one.text_hidden_states, two.text_hidden_states, strict=True)
    ]
    # The embeddings and layers 0 to 5, then six times a connection and a layer.
    assert same == [True] * 7 + [False] * 12
    assert len(one.region_hidden_states) == 1 + 6 * 2


def test_padding_of_text_and_regions_changes_nothing() -> None:
    model = narrow()
    batch = inputs()
    short = {
        name: value[1:, : 4 if name in ("features", "locations") else 6]
        for name, value in batch.items()
        if "mask" not in name
    }
    with torch.no_grad():
        padded, alone = model(**batch), model(**short)
    for name in ("match_logits", "pooler_output"):
        assert (padded[name][1] - alone[name][0]).abs().max() <= 1e-5
    assert (padded.object_logits[1, :4] - alone.object_logits[0]).abs().max() <= 1e-5
    assert (padded.prediction_logits[1, :6] - alone.prediction_logits[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("tasks", [False, True])
def test_heads_read_the_places_that_are_named(tasks: bool) -> None:
    model = narrow(task_specific_tokens=tasks, feature_head=True)
    batch = inputs()
    if tasks:
        batch["task_ids"] = torch.zeros(2, 1).long()
    words, regions = torch.tensor([0, 1, 8, 9, 17]), torch.tensor([0, 4, 5])
    with torch.no_grad():
        whole = model(**batch)
        some = model(**batch, masked_positions=words, predicted_regions=regions)
    text = whole.prediction_logits
    own = torch.cat([text[:, :1], text[:, 2:]], dim=1) if tasks else text
    assert (some.prediction_logits - own.flatten(0, 1)[words]).abs().max() <= 1e-5
    for name in ("object_logits", "feature_predictions"):
        expected = whole[name][:, 1:].flatten(0, 1)[regions]
        assert (some[name] - expected).abs().max() <= 1e-5


def test_scores_are_the_log_odds_of_class_0() -> None:
    model = narrow()
    with torch.no_grad():
        odds = model(**inputs()).match_logits.log_softmax(-1)
        scores = model.score(**inputs(), masked_positions=torch.tensor([1]))
    assert scores.shape == (2,)
    assert model.config.match_class == 0
    assert (scores - (odds[:, 0] - odds[:, 1])).abs().max() <= 1e-5


def test_pooled_states_may_be_added() -> None:
    batch = inputs()
    with torch.no_grad():
        states = narrow().bert(**batch)
        product, total = narrow()(**batch), narrow(fusion_method="sum")(**batch)
    assert torch.equal(product.pooler_output, states.pooled_text * states.pooled_regions)
    assert torch.equal(total.pooler_output, states.pooled_text + states.pooled_regions)


def test_a_batch_without_masked_regions_costs_nothing_and_is_no_nan() -> None:
    model = narrow()
    nothing = torch.empty(0, dtype=torch.long)
    batch = {
        **inputs(),
        "predicted_regions": nothing,
        "masked_positions": torch.tensor([1]),
        "masked_labels": torch.tensor([5]),
        "object_probabilities": torch.empty(0, CLASSES),
    }
    total, losses = compute(model(**batch), batch, {"mlm": 1.0, "moc-kl": 1.0})
    assert float(losses["moc-kl"]) == 0
    total.backward()
    assert all(
        bool(parameter.grad.isfinite().all())
        for parameter in model.parameters()
        if parameter.grad is not None
    )


def test_the_published_losses_are_computed_as_published() -> None:
    model = narrow()
    places = torch.tensor([0, 3, 7])
    batch = {
        **inputs(),
        "masked_positions": torch.tensor([1, 10]),
        "masked_labels": torch.tensor([5, 6]),
        "predicted_regions": places,
        "object_probabilities": torch.rand(3, CLASSES).softmax(-1),
        "match_labels": torch.tensor([0, 1]),
    }
    with torch.no_grad():
        _, losses = compute(model(**batch), batch, {"mlm": 1.0, "moc-kl": 1.0, "itm": 1.0})
        expected = reference(model.state_dict(), batch)
    regions = expected["object_logits"][:, 1:].flatten(0, 1)[places]
    each = functional.kl_div(
        regions.log_softmax(-1), batch["object_probabilities"], reduction="none"
    )
    words = expected["prediction_logits"].flatten(0, 1)[batch["masked_positions"]]
    wanted = {
        "moc-kl": each.sum() / 3,
        "mlm": functional.cross_entropy(words, batch["masked_labels"]),
        "itm": functional.cross_entropy(expected["match_logits"], batch["match_labels"]),
    }
    for name, value in wanted.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=1e-5)


DROPOUTS = {
    "hidden_dropout_prob": 0.1,
    "v_hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
    "v_attention_probs_dropout_prob": 0.4,
    "fusion_dropout_prob": 0.5,
}


def test_each_dropout_stands_where_it_is_published() -> None:
    modules = dict(narrow(**DROPOUTS).named_modules())
    shares = {
        name: module.p for name, module in modules.items() if isinstance(module, torch.nn.Dropout)
    }
    encoder = "bert.encoder"
    expected = {
        "bert.embeddings.dropout": 0.1,
        "bert.v_embeddings.dropout": 0.1,
        "cls.dropout": 0.5,
        **{f"{encoder}.layer.{n}.attention.output.dropout": 0.1 for n in range(12)},
        **{f"{encoder}.layer.{n}.output.dropout": 0.1 for n in range(12)},
        **{f"{encoder}.v_layer.{n}.attention.output.dropout": 0.2 for n in range(6)},
        **{f"{encoder}.v_layer.{n}.output.dropout": 0.2 for n in range(6)},
        **{f"{encoder}.c_layer.{n}.biOutput.dropout1": 0.2 for n in range(6)},
        **{f"{encoder}.c_layer.{n}.biOutput.dropout2": 0.1 for n in range(6)},
        **{f"{encoder}.c_layer.{n}.v_output.dropout": 0.2 for n in range(6)},
        **{f"{encoder}.c_layer.{n}.t_output.dropout": 0.1 for n in range(6)},
    }
    assert shares == expected
    assert modules[f"{encoder}.layer.3.attention.self"].dropout == 0.3
    assert modules[f"{encoder}.v_layer.3.attention.self"].dropout == 0.4
    assert modules[f"{encoder}.c_layer.3.biattention"].dropout1 == 0.4
    assert modules[f"{encoder}.c_layer.3.biattention"].dropout2 == 0.3


@pytest.mark.parametrize("only", [None, *DROPOUTS])
def test_each_dropout_acts_in_training_alone(only: str | None) -> None:
    model = narrow(**{name: 0.5 if name == only else 0.0 for name in DROPOUTS})
    batch = inputs()
    with torch.no_grad():
        assert torch.equal(model(**batch).match_logits, model(**batch).match_logits)
        model.train()
        same = torch.equal(model(**batch).match_logits, model(**batch).match_logits)
    assert same is (only is None)


def test_checkpointed_gradients_are_the_same() -> None:
    gradients = []
    for again in (False, True):
        model = narrow(**dict.fromkeys(DROPOUTS, 0.0)).train()
        if again:
            model.activation_checkpointing_enable()
            assert model.bert.encoder.gradient_checkpointing
        model(**inputs()).match_logits.sum().backward()
        gradients.append(model.bert.encoder.layer[0].output.dense.weight.grad)
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-5


def test_weights_start_as_published() -> None:
    model = ViLBertForPreTraining(ViLBertConfig.of_size("tiny", vocab_size=2000))
    words = model.bert.embeddings.word_embeddings.weight.detach()
    assert float(words.std()) == pytest.approx(0.02, rel=0.05)
    assert float(words[0].abs().sum()) > 0  # the padding's row is drawn too
    connected = model.bert.encoder.c_layer[0]
    assert float(connected.biOutput.dense1.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not connected.biOutput.dense1.bias.any()
    assert torch.equal(connected.biOutput.LayerNorm2.weight, torch.ones(128))


def test_a_folder_gives_the_same_model_back(tmp_path: Path) -> None:
    model = narrow(contrast_head=True, feature_head=True, tags=True)
    model.save_pretrained(tmp_path)
    again = ViLBertForPreTraining.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        one, two = model(**inputs()), again(**inputs())
        states = ViLBertModel.from_pretrained(tmp_path).eval()(**inputs())
    assert set(one) == set(two)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(states.text_states, model.bert(**inputs()).text_states)
    assert again.cls.predictions.decoder.weight is again.bert.embeddings.word_embeddings.weight
    header = (tmp_path / "model.safetensors").read_bytes()
    names = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert "cls.predictions.decoder.weight" not in names
    assert "bert.encoder.c_layer.5.biOutput.q_dense2.weight" in names


def test_heads_are_there_on_demand() -> None:
    assert set(narrow()(**inputs())) == {
        "prediction_logits",
        "object_logits",
        "match_logits",
        "pooler_output",
    }
    both = narrow(contrast_head=True, feature_head=True, texta_false_prob=0.25)(**inputs())
    assert both.seq_relationship_logits.shape == (2, 3)
    assert both.feature_predictions.shape == (2, 6, FEATURES)
    assert ViLBertConfig().objectives()["mrfr"] == "set model.config.feature_head to true"
    assert ViLBertConfig(feature_head=True).objectives()["mrfr"] is None


def test_large_has_the_published_shape() -> None:
    config = ViLBertConfig.of_size("large")
    assert (config.num_hidden_layers, config.hidden_size) == (24, 1024)
    assert config.t_biattention_id == [18, 19, 20, 21, 22, 23]


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="no argument img_feats"):
        narrow()(**inputs(), img_feats=torch.zeros(1))
    with pytest.raises(ValueError, match="task_ids: this model reads none"):
        narrow()(**inputs(), task_ids=torch.zeros(2, 1).long())
    with pytest.raises(ValueError, match="task_ids: this model reads them"):
        narrow(task_specific_tokens=True)(**inputs())


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        ("huge", {}, "no size huge; take tiny, base, large"),
        ("tiny", {"hidden": 3}, "unknown key hidden"),
        ("tiny", {"max_seq_length": 500}, "max_seq_length 500 is more than"),
        ("tiny", {"v_biattention_id": [0]}, "one number per connection"),
        ("tiny", {"t_biattention_id": [2, 1]}, "take rising numbers from 0 to 2"),
        ("tiny", {"v_biattention_id": [0, 2]}, "take rising numbers from 0 to 1"),
        ("tiny", {"global_feature": "mean"}, "global_feature"),
    ],
)
def test_wrong_configurations_are_refused(
    size: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        ViLBertConfig.of_size(size, **changes)
