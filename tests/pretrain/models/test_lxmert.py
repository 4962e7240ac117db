"""LXMERT: counts, names, heads and quirks, and the way through a folder."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pretrain.models.lxmert import LxmertForPreTraining, LxmertModel
from pretrain.models.lxmert_config import LxmertConfig
from pretrain.objectives import OBJECTIVES, check_objectives
from pretrain.recipe import PretrainRecipe, locate
from trawl import recipe as recipes
from trawl.errors import RequestError

WORDS = 120


def tiny(**changes: object) -> LxmertForPreTraining:
    torch.manual_seed(0)
    settings = {
        "vocab_size": WORDS,
        "visual_feat_dim": 16,
        "num_object_labels": 8,
        "num_attr_labels": 5,
        "num_qa_labels": 6,
        "initializer_range": 0.1,
        **changes,
    }
    return LxmertForPreTraining(LxmertConfig.of_size("tiny", **settings)).eval()


def inputs() -> dict[str, Tensor]:
    """Two samples of 9 tokens and 4 regions, the second one padded in both."""
    torch.manual_seed(1)
    text_mask = torch.ones(2, 9, dtype=torch.long)
    text_mask[1, 6:] = 0
    region_mask = torch.ones(2, 4, dtype=torch.long)
    region_mask[1, 2:] = 0
    return {
        "input_ids": torch.randint(5, WORDS, (2, 9)),
        "token_type_ids": torch.randint(0, 2, (2, 9)),
        "attention_mask": text_mask,
        "visual_feats": torch.randn(2, 4, 16),
        "visual_pos": torch.rand(2, 4, 4),
        "visual_attention_mask": region_mask,
    }


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        model = LxmertForPreTraining(LxmertConfig.of_size("base"))
    assert model.config.num_qa_labels == 9500
    assert sum(parameter.numel() for parameter in model.parameters()) == 228_051_752


def attention(prefix: str, inner: str) -> dict[str, tuple[int, ...]]:
    projections = {f"{prefix}.{inner}.{name}.weight": (768, 768) for name in _PROJECTED}
    biases = {f"{prefix}.{inner}.{name}.bias": (768,) for name in _PROJECTED}
    return {**projections, **biases, **ending(f"{prefix}.output", 768)}


def ending(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.dense.weight": (768, width),
        f"{prefix}.dense.bias": (768,),
        f"{prefix}.LayerNorm.weight": (768,),
        f"{prefix}.LayerNorm.bias": (768,),
    }


def linear(prefix: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (rows, columns), f"{prefix}.bias": (rows,)}


_PROJECTED = ("query", "key", "value")


def bert_layer(prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        **attention(f"{prefix}.attention", "self"),
        **linear(f"{prefix}.intermediate.dense", 3072, 768),
        **ending(f"{prefix}.output", 3072),
    }


def cross_layer(prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        **attention(f"{prefix}.visual_attention", "att"),
        **attention(f"{prefix}.lang_self_att", "self"),
        **attention(f"{prefix}.visn_self_att", "self"),
        **linear(f"{prefix}.lang_inter.dense", 3072, 768),
        **ending(f"{prefix}.lang_output", 3072),
        **linear(f"{prefix}.visn_inter.dense", 3072, 768),
        **ending(f"{prefix}.visn_output", 3072),
    }


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of `Epoch*_LXRT.pth`, without its `module.`."""
    encoder = "bert.encoder"
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (30522, 768),
        "bert.embeddings.position_embeddings.weight": (512, 768),
        "bert.embeddings.token_type_embeddings.weight": (2, 768),
        "bert.embeddings.LayerNorm.weight": (768,),
        "bert.embeddings.LayerNorm.bias": (768,),
        **linear(f"{encoder}.visn_fc.visn_fc", 768, 2048),
        **linear(f"{encoder}.visn_fc.box_fc", 768, 4),
        "cls.predictions.bias": (30522,),
        "cls.predictions.decoder.weight": (30522, 768),
        **ending("cls.predictions.transform", 768),
        **linear("cls.seq_relationship", 2, 768),
        **linear("bert.pooler.dense", 768, 768),
        **ending("obj_predict_head.transform", 768),
        **linear("obj_predict_head.decoder_dict.obj", 1600, 768),
        **linear("obj_predict_head.decoder_dict.attr", 400, 768),
        **linear("obj_predict_head.decoder_dict.feat", 2048, 768),
        **linear("answer_head.logit_fc.0", 1536, 768),
        "answer_head.logit_fc.2.weight": (1536,),
        "answer_head.logit_fc.2.bias": (1536,),
        **linear("answer_head.logit_fc.3", 9500, 1536),
    }
    for norm in ("visn_layer_norm", "box_layer_norm"):
        shapes[f"{encoder}.visn_fc.{norm}.weight"] = (768,)
        shapes[f"{encoder}.visn_fc.{norm}.bias"] = (768,)
    for number in range(9):
        shapes.update(bert_layer(f"{encoder}.layer.{number}"))
    for number in range(5):
        shapes.update(bert_layer(f"{encoder}.r_layers.{number}"))
        shapes.update(cross_layer(f"{encoder}.x_layers.{number}"))
    return shapes


def test_state_dict_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = LxmertForPreTraining(LxmertConfig())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == published_shapes()


def test_padding_of_text_and_regions_changes_nothing() -> None:
    model = tiny()
    batch = inputs()
    lengths = {"visual_feats": 2, "visual_pos": 2, "visual_attention_mask": 2}
    short = {name: tensor[1:, : lengths.get(name, 6)] for name, tensor in batch.items()}
    with torch.no_grad():
        padded, alone = model(**batch), model(**short)
    assert (padded.match_logits[1] - alone.match_logits[0]).abs().max() <= 1e-5
    text = padded.prediction_logits[1, :6] - alone.prediction_logits[0]
    regions = padded.feature_predictions[1, :2] - alone.feature_predictions[0]
    assert text.abs().max() <= 1e-5
    assert regions.abs().max() <= 1e-5


def test_plain_and_fused_attention_agree() -> None:
    fused = tiny()
    plain = tiny()
    plain.load_state_dict(fused.state_dict())
    assert fused.config._attn_implementation == "sdpa"
    eager = LxmertForPreTraining._from_config(plain.config, attn_implementation="eager").eval()
    eager.load_state_dict(fused.state_dict())
    with torch.no_grad():
        one, other = fused(**inputs()), eager(**inputs())
    for name in ("prediction_logits", "object_logits", "answer_logits"):
        assert (one[name] - other[name]).abs().max() <= 1e-5


def test_places_give_the_predictions_of_those_places() -> None:
    model = tiny()
    words, regions = torch.tensor([1, 8, 9, 14]), torch.tensor([0, 3, 5])
    with torch.no_grad():
        whole = model(**inputs())
        chosen = model(**inputs(), masked_positions=words, predicted_regions=regions)
    assert whole.object_logits.shape == (2, 4, 8)
    expected = whole.prediction_logits.flatten(0, 1)[words]
    assert (chosen.prediction_logits - expected).abs().max() <= 1e-5
    for name in ("object_logits", "attribute_logits", "feature_predictions"):
        assert (chosen[name] - whole[name].flatten(0, 1)[regions]).abs().max() <= 1e-5


def test_score_is_the_log_odds_of_a_match() -> None:
    model = tiny()
    labels = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        logits = model(**inputs()).match_logits
        score = model.score(**inputs(), match_labels=labels, masked_positions=labels)
    odds = logits.softmax(-1)[:, LxmertConfig.match_class].logit()
    assert (score - odds).abs().max() <= 1e-5


def test_published_tables_keep_their_first_rows_and_sound_ones_learn_them() -> None:
    for quirk, learns in (("as_published", False), ("sound", True)):
        model = tiny(frozen_rows=quirk)
        batch = {**inputs(), "token_type_ids": torch.zeros(2, 9, dtype=torch.long)}
        model(**batch).match_logits.square().sum().backward()
        for table in (
            model.bert.embeddings.position_embeddings,
            model.bert.embeddings.token_type_embeddings,
        ):
            assert table.weight.detach()[0].any()  # drawn, and read in both forms
            assert bool(table.weight.grad[0].any()) is learns
        assert bool(model.bert.embeddings.position_embeddings.weight.grad[1].any())


def test_both_forms_of_the_tables_compute_the_same() -> None:
    published, sound = tiny(), tiny(frozen_rows="sound")
    sound.load_state_dict(published.state_dict())
    with torch.no_grad():
        assert torch.equal(published(**inputs()).match_logits, sound(**inputs()).match_logits)


def test_gradients_with_and_without_checkpointing_are_the_same() -> None:
    found = []
    for switched in (False, True):
        model = tiny(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if switched:
            model.gradient_checkpointing_enable()
            assert model.bert.encoder.gradient_checkpointing
        model(**inputs()).answer_logits.square().sum().backward()
        found.append(model.bert.encoder.layer[0].output.dense.weight.grad)
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_heads_are_there_as_asked_and_their_objectives_say_so() -> None:
    known = tiny().config.objectives()
    assert set(known) <= set(OBJECTIVES)
    assert [name for name, fix in known.items() if fix] == ["contrast"]
    heads = ("object_head", "attribute_head", "feature_head", "answer_head")
    bare = tiny(**dict.fromkeys(heads, False), contrast_head=True)
    assert bare.obj_predict_head is None
    assert bare.answer_head is None
    said = bare(**inputs())
    assert set(said) == {
        "prediction_logits",
        "match_logits",
        "seq_relationship_logits",
        "pooler_output",
    }
    assert said.seq_relationship_logits.shape == (2, 3)
    check_objectives(["mlm", "itm", "contrast"], bare.config)
    with pytest.raises(RequestError, match=r"qa needs a head; set model\.config\.answer_head"):
        check_objectives(["qa"], bare.config)
    with pytest.raises(RequestError, match="knows no bbox"):
        check_objectives(["bbox"], bare.config)


def test_an_answer_table_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("yes\nno\n\n2\n")
    config = LxmertConfig.of_size("tiny", answers=str(tmp_path / "answers.txt"))
    assert config.answers == ["yes", "no", "2"]
    assert config.num_qa_labels == 3


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        ("large", {}, "no size large; take tiny, base"),
        ("tiny", {"layers": 3}, "unknown key layers"),
        ("tiny", {"hidden_size": "wide"}, "hidden_size"),
        ("tiny", {"frozen_rows": "thawed"}, "frozen_rows"),
        ("tiny", {"max_seq_length": 500}, "max_seq_length 500 is more than"),
        ("tiny", {"visual_pos_dim": 5}, "a box has 4 numbers"),
        ("tiny", {"answers": ["yes"], "num_qa_labels": 2}, "set num_qa_labels to 1"),
        ("tiny", {"answers": "nowhere.txt"}, "no file nowhere.txt; it has one answer a line"),
    ],
)
def test_wrong_configurations_are_refused(
    size: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        LxmertConfig.of_size(size, **changes)


def test_an_argument_that_is_no_target_is_refused() -> None:
    model = tiny()
    model(**inputs(), answer_labels=torch.zeros(2), object_weights=torch.zeros(1))
    with pytest.raises(TypeError, match="no argument visual_feat"):
        model(**inputs(), visual_feat=torch.zeros(1))


def test_a_folder_brings_back_the_same_model(tmp_path: Path) -> None:
    model = tiny(contrast_head=True, answers=["yes", "no"], num_qa_labels=2)
    model.save_pretrained(tmp_path)
    header = (tmp_path / "model.safetensors").read_bytes()
    names = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert "cls.predictions.decoder.weight" not in names  # tied, stored once
    again = LxmertForPreTraining.from_pretrained(tmp_path).eval()
    assert again.config.answers == ["yes", "no"]
    table = again.bert.embeddings.word_embeddings.weight
    assert again.cls.predictions.decoder.weight is table
    assert again.bert.embeddings.position_embeddings.padding_idx == 0
    with torch.no_grad():
        old, new = model(**inputs()), again(**inputs())
        network = LxmertModel.from_pretrained(tmp_path).eval()
        pooled = network(**inputs()).pooler_output
    for name in old:
        assert torch.equal(old[name], new[name]), name
    assert torch.equal(pooled, old.pooler_output)


def test_the_shipped_recipe_has_the_published_numbers() -> None:
    recipe = recipes.load(locate("lxmert"), PretrainRecipe)
    (stage,) = recipe.stages
    changes = {key: value for key, value in recipe.model.config.items() if key != "answers"}
    built = LxmertConfig.of_size(recipe.model.size, **changes)
    assert built.to_dict() == LxmertConfig().to_dict()
    check_objectives(stage.objectives, built)
    assert set(stage.objectives.values()) == {1.0}
    assert stage.batch.samples == 256
    assert stage.steps == pytest.approx(20 * 9.18e6 / 256, rel=1e-3)
    optimizer = stage.optimizer
    assert (optimizer.name, optimizer.decay_groups) == ("bert-adam", "lxmert")
    assert (optimizer.lr, optimizer.weight_decay, optimizer.eps) == (1e-4, 0.01, 1e-6)
    assert (optimizer.decay, optimizer.clip, optimizer.clip_each) == ("triangle", 1.0, 0.0)
    assert optimizer.warmup_steps == 0.05 * stage.steps
