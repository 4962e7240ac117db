"""Oscar: counts, names, masks, heads, and the way through a folder into a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForPreTraining

from pretrain.models.oscar import OscarForPreTraining, OscarModel
from pretrain.models.oscar_config import OscarConfig
from trawl.errors import RequestError

WORDS = 120


def tiny(**changes: object) -> OscarForPreTraining:
    torch.manual_seed(0)
    settings = {"vocab_size": WORDS, "img_feature_dim": 22, "initializer_range": 0.1, **changes}
    return OscarForPreTraining(OscarConfig.of_size("tiny", **settings)).eval()


def inputs() -> dict[str, Tensor]:
    """Two samples of 9 tokens and 4 regions, the second one padded in both."""
    torch.manual_seed(1)
    mask = torch.ones(2, 13, dtype=torch.long)
    mask[1, 6:9] = 0
    mask[1, 11:] = 0
    return {
        "input_ids": torch.randint(5, WORDS, (2, 9)),
        "token_type_ids": torch.randint(0, 2, (2, 9)),
        "attention_mask": mask,
        "img_feats": torch.randn(2, 4, 22),
    }


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 111_684_668),
        ({"texta_false_prob": 0.25, "use_img_layernorm": True}, 111_686_973),
    ],
)
def test_parameters_are_as_many_as_published(changes: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        model = OscarForPreTraining(OscarConfig.of_size("base", **changes))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_state_dict_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = OscarForPreTraining(OscarConfig(use_img_layernorm=True, num_contrast_classes=3))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    layer = {
        "attention.self.query.weight": (768, 768),
        "attention.self.query.bias": (768,),
        "attention.self.key.weight": (768, 768),
        "attention.self.key.bias": (768,),
        "attention.self.value.weight": (768, 768),
        "attention.self.value.bias": (768,),
        "attention.output.dense.weight": (768, 768),
        "attention.output.dense.bias": (768,),
        "attention.output.LayerNorm.weight": (768,),
        "attention.output.LayerNorm.bias": (768,),
        "intermediate.dense.weight": (3072, 768),
        "intermediate.dense.bias": (3072,),
        "output.dense.weight": (768, 3072),
        "output.dense.bias": (768,),
        "output.LayerNorm.weight": (768,),
        "output.LayerNorm.bias": (768,),
    }
    assert shapes == {
        "bert.embeddings.word_embeddings.weight": (30522, 768),
        "bert.embeddings.position_embeddings.weight": (512, 768),
        "bert.embeddings.token_type_embeddings.weight": (2, 768),
        "bert.embeddings.LayerNorm.weight": (768,),
        "bert.embeddings.LayerNorm.bias": (768,),
        "bert.img_embedding.weight": (768, 2054),
        "bert.img_embedding.bias": (768,),
        "bert.LayerNorm.weight": (768,),
        "bert.LayerNorm.bias": (768,),
        **{
            f"bert.encoder.layer.{number}.{name}": shape
            for number in range(12)
            for name, shape in layer.items()
        },
        "bert.pooler.dense.weight": (768, 768),
        "bert.pooler.dense.bias": (768,),
        "cls.predictions.bias": (30522,),
        "cls.predictions.transform.dense.weight": (768, 768),
        "cls.predictions.transform.dense.bias": (768,),
        "cls.predictions.transform.LayerNorm.weight": (768,),
        "cls.predictions.transform.LayerNorm.bias": (768,),
        "cls.predictions.decoder.weight": (30522, 768),
        "cls.seq_relationship.weight": (3, 768),
        "cls.seq_relationship.bias": (3,),
    }


def test_large_has_the_published_shape() -> None:
    config = OscarConfig.of_size("large")
    assert (config.num_hidden_layers, config.hidden_size) == (24, 1024)
    assert (config.num_attention_heads, config.intermediate_size) == (16, 4096)


def test_weights_start_as_published() -> None:
    model = OscarForPreTraining(OscarConfig.of_size("tiny", vocab_size=2000))
    words = model.bert.embeddings.word_embeddings.weight.detach()
    assert float(words.std()) == pytest.approx(0.02, rel=0.05)
    assert float(words[0].abs().sum()) > 0  # the padding's row is drawn too
    layer = model.bert.encoder.layer[0]
    assert float(layer.output.dense.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not layer.output.dense.bias.any()
    assert torch.equal(layer.output.LayerNorm.weight, torch.ones(128))


def test_comparing_heads_start_with_keys_like_queries_and_the_others_average() -> None:
    model = tiny(comparing_heads=2)
    attention = model.bert.encoder.layer[1].attention.self
    rows = 2 * attention.head_size
    assert torch.equal(attention.query.weight[:rows], attention.key.weight[:rows])
    assert attention.query.weight[:rows].any()
    assert not attention.query.weight[rows:].any()
    assert not model.bert.embeddings.position_embeddings.weight.any()


def test_what_was_learned_is_not_drawn_again_on_the_way_back(tmp_path: Path) -> None:
    model = tiny(comparing_heads=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path)
    again = OscarForPreTraining.from_pretrained(tmp_path)
    for (name, old), new in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(old, new), name


def test_padding_of_text_and_regions_changes_nothing() -> None:
    model = tiny()
    batch = inputs()
    keep = batch["attention_mask"][1].bool()
    short = {
        "input_ids": batch["input_ids"][1:, :6],
        "token_type_ids": batch["token_type_ids"][1:, :6],
        "img_feats": batch["img_feats"][1:, :2],
    }
    with torch.no_grad():
        padded = model.bert(**batch)
        alone = model.bert(**short)
    assert (padded.last_hidden_state[1][keep] - alone.last_hidden_state[0]).abs().max() <= 1e-5
    assert (padded.pooler_output[1] - alone.pooler_output[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("rows", [False, True])
def test_states_are_those_of_transformers_bert_on_text_and_regions(
    normalised: bool, rows: bool
) -> None:
    model = tiny(use_img_layernorm=normalised, texta_false_prob=0.25)
    torch.manual_seed(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = inputs()
    if rows:
        batch["attention_mask"] = (torch.rand(2, 13, 13) > 0.3).long()
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=128,
        attn_implementation="eager",
    )
    bert = BertForPreTraining(config).eval()
    bert.cls.seq_relationship = torch.nn.Linear(128, 3)
    missing, extra = bert.load_state_dict(model.state_dict(), strict=False)
    assert set(missing) <= {"cls.predictions.decoder.bias"}
    regions = {"bert.img_embedding.weight", "bert.img_embedding.bias"}
    gains = {"bert.LayerNorm.weight", "bert.LayerNorm.bias"}
    assert set(extra) == (regions | gains if normalised else regions)
    with torch.no_grad():
        outputs = model(**batch, output_hidden_states=True)
        text = bert.bert.embeddings(batch["input_ids"], batch["token_type_ids"])
        projected = model.bert.img_embedding(batch["img_feats"])
        if normalised:
            gain, bias = model.bert.LayerNorm.weight, model.bert.LayerNorm.bias
            projected = functional.layer_norm(projected, (128,), gain, bias, eps=1e-12)
        mask = batch["attention_mask"]
        bias = (1.0 - (mask[:, None] if rows else mask[:, None, None]).float()) * -10000.0
        states = bert.bert.encoder(torch.cat([text, projected], dim=1), bias).last_hidden_state
        pooled = bert.bert.pooler(states)
        scores, relation = bert.cls(states[:, :9], pooled)
    assert (outputs.hidden_states[-1] - states).abs().max() <= 1e-5
    assert (outputs.pooler_output - pooled).abs().max() <= 1e-5
    assert (outputs.prediction_logits - scores).abs().max() <= 1e-5
    assert (outputs.seq_relationship_logits - relation).abs().max() <= 1e-5


def test_regions_have_neither_order_nor_segment() -> None:
    model = tiny()
    batch = inputs()
    batch.pop("attention_mask")
    turned = {**batch, "img_feats": batch["img_feats"].flip(1)}
    with torch.no_grad():
        difference = model.bert(**batch).pooler_output - model.bert(**turned).pooler_output
    assert difference.abs().max() <= 1e-5


def test_masked_positions_give_the_logits_of_those_places() -> None:
    model = tiny()
    places = torch.tensor([1, 8, 9, 14])
    with torch.no_grad():
        whole = model(**inputs()).prediction_logits
        chosen = model(**inputs(), masked_positions=places).prediction_logits
    assert whole.shape == (2, 9, WORDS)
    assert (chosen - whole.flatten(0, 1)[places]).abs().max() <= 1e-5


def test_region_norm_and_match_head_are_there_on_demand() -> None:
    assert tiny().bert.LayerNorm is None
    assert tiny(use_img_layernorm=True).bert.LayerNorm is not None
    assert "match_logits" not in tiny()(**inputs())
    assert tiny(match_head=True)(**inputs()).match_logits.shape == (2, 2)


def test_region_heads_are_there_on_demand_and_read_the_regions_alone() -> None:
    plain = tiny()(**inputs())
    assert plain.object_logits is None
    assert plain.feature_predictions is None
    model = tiny(object_classes=7, feature_head=True)
    names = {name for name in model.state_dict() if name.startswith("cls.")}
    assert {"cls.object_classifier.weight", "cls.feature_regressor.bias"} <= names
    places = torch.tensor([0, 5, 7])
    with torch.no_grad():
        whole = model(**inputs())
        chosen = model(**inputs(), predicted_regions=places)
        states = model.bert(**inputs()).last_hidden_state[:, 9:].flatten(0, 1)[places]
    assert whole.object_logits.shape == (2, 4, 7)
    assert whole.feature_predictions.shape == (2, 4, 16)
    wanted = model.cls.object_classifier(states)
    assert (chosen.object_logits - wanted).abs().max() <= 1e-6
    difference = chosen.feature_predictions - whole.feature_predictions.flatten(0, 1)[places]
    assert difference.abs().max() <= 1e-5


def test_objectives_name_the_head_that_is_missing() -> None:
    bare = OscarConfig().objectives()
    assert [name for name, fix in bare.items() if fix is None] == ["mlm", "contrast"]
    assert bare["mrfr"] == "set model.config.feature_head to true"
    full = OscarConfig(match_head=True, object_classes=1600, feature_head=True)
    assert set(full.objectives().values()) == {None}


def test_scores_are_the_log_odds_of_the_head_there_is() -> None:
    with torch.no_grad():
        for model in (tiny(match_head=True), tiny(), tiny(texta_false_prob=0.25)):
            outputs = model(**inputs())
            logits = outputs.seq_relationship_logits.flip(-1)[:, [0, -1]]
            if model.config.match_head:
                logits = outputs.match_logits
            assert torch.equal(model.score(**inputs()), logits[:, 1] - logits[:, 0])


def test_contrast_classes_follow_from_the_pollution() -> None:
    assert OscarConfig().num_contrast_classes == 2
    assert OscarConfig(texta_false_prob=0.25).num_contrast_classes == 3
    assert OscarConfig(texta_false_prob=0.5).num_contrast_classes == 2
    assert OscarConfig(tag_source="none").num_contrast_classes == 3


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        ("huge", {}, "no size huge; take tiny, base, large"),
        ("tiny", {"hidden": 3}, "unknown key hidden"),
        ("tiny", {"hidden_size": "wide"}, "hidden_size"),
        ("tiny", {"max_seq_length": 500}, "max_seq_length 500 is more than"),
        ("tiny", {"mask_unit": "letter"}, "mask_unit"),
        ("tiny", {"textb_sample_mode": 3}, "textb_sample_mode"),
    ],
)
def test_wrong_configurations_are_refused(
    size: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        OscarConfig.of_size(size, **changes)


def test_a_mask_that_covers_something_else_is_refused() -> None:
    batch = inputs()
    with pytest.raises(ValueError, match="covers 9 positions, text and regions are 13"):
        tiny().bert(**{**batch, "attention_mask": batch["attention_mask"][:, :9]})


def test_an_argument_that_is_no_target_is_refused() -> None:
    with pytest.raises(TypeError, match="no argument img_feat"):
        tiny()(**inputs(), img_feat=torch.zeros(1))


def test_a_fresh_process_reads_the_folder_with_the_auto_classes(tmp_path: Path) -> None:
    model = tiny(texta_false_prob=0.25, use_img_layernorm=True)
    model.save_pretrained(tmp_path / "model")
    batch = inputs()
    torch.save(batch, tmp_path / "batch.pt")
    with torch.no_grad():
        torch.save(model.bert(**batch).last_hidden_state, tmp_path / "states.pt")
        torch.save(model(**batch).seq_relationship_logits, tmp_path / "logits.pt")
    code = """
import sys, torch
import pretrain
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining
folder = sys.argv[1]
batch = torch.load(folder + "/batch.pt")
model = AutoModel.from_pretrained(folder + "/model").eval()
heads = AutoModelForPreTraining.from_pretrained(folder + "/model").eval()
assert AutoConfig.from_pretrained(folder + "/model").num_contrast_classes == 3
assert heads.cls.predictions.decoder.weight is heads.bert.embeddings.word_embeddings.weight
with torch.no_grad():
    states = model(**batch).last_hidden_state
    logits = heads(**batch).seq_relationship_logits
print(float((states - torch.load(folder + "/states.pt")).abs().max()))
print(float((logits - torch.load(folder + "/logits.pt")).abs().max()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [float(line) for line in done.stdout.split()] == [0.0, 0.0]


def test_the_tied_decoder_is_stored_once(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    header = (tmp_path / "model.safetensors").read_bytes()
    names = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert "bert.embeddings.word_embeddings.weight" in names
    assert "cls.predictions.decoder.weight" not in names


def test_a_model_without_heads_takes_no_head_from_the_folder(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        own = OscarModel.from_pretrained(tmp_path)(**inputs()).pooler_output
        assert torch.equal(own, model.bert(**inputs()).pooler_output)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, pretrain; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
