"""Starting from BERT: each family takes what its original takes, and no other BERT."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel, PreTrainedModel

from pretrain.models.bert_initialisation import TEXT, Taken, initialise_from_bert
from pretrain.models.families import FAMILIES, family
from tests.pretrain.checkpoints import originals
from trawl.errors import RequestError

WORDS, HIDDEN = originals.WORDS, originals.HIDDEN
TEXT_SIZES = {
    "vocab_size": WORDS,
    "hidden_size": HIDDEN,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
    "max_seq_length": 20,
}
SIZES = {
    "oscar": {"num_hidden_layers": 2},
    "imagebert": {"num_hidden_layers": 2},
    "vilbert": {"num_hidden_layers": 2, "v_biattention_id": [0, 1], "t_biattention_id": [0, 1]},
    "lxmert": {"l_layers": 2},
    "xvlm": {"num_hidden_layers": 2, "fusion_layer": 1},
}


def model_of(name: str, **changes: object) -> PreTrainedModel:
    torch.manual_seed(1)
    kind = family(name)
    return kind.pretraining(
        kind.configuration.of_size("tiny", **{**TEXT_SIZES, **SIZES[name], **changes})
    )


def bert_config(**changes: object) -> BertConfig:
    sizes = {key: value for key, value in TEXT_SIZES.items() if key != "max_seq_length"}
    return BertConfig(**{**sizes, "num_hidden_layers": 2, **changes})


def saved(bert: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """Save `bert` with random norms and biases, which its makers begin with 1 and 0."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.copy_(torch.randn_like(parameter))
    bert.save_pretrained(folder)
    return bert.state_dict()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_text_weight_is_taken_and_the_rest_stays(name: str, tmp_path: Path) -> None:
    theirs = saved(BertForPreTraining(bert_config()), tmp_path)
    model = model_of(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    taken = initialise_from_bert(model, tmp_path)
    state = model.state_dict()
    prefix = TEXT[name].prefix
    for key in taken.taken:
        assert torch.equal(state[key], theirs[key.removeprefix(prefix)]), key
    for key in taken.new:
        assert torch.equal(state[key], before[key]), key
    assert sorted(taken.taken + taken.new) == sorted(n for n, _ in model.named_parameters())
    layers = {key for key in theirs if key.startswith(("bert.encoder.", "bert.embeddings."))}
    mlm = {"cls.predictions.bias"} | {key for key in theirs if "cls.predictions.transform" in key}
    extra = {key.removeprefix(prefix) for key in taken.taken} - layers - mlm
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    next_sentence = {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}
    positions = {"bert.embeddings.position_ids"}
    assert layers - positions <= {key.removeprefix(prefix) for key in taken.taken}
    assert mlm <= {key.removeprefix(prefix) for key in taken.taken}
    expected = {
        "oscar": pooler | next_sentence,
        "imagebert": pooler,
        "lxmert": pooler,
        "vilbert": set(),
        "xvlm": set(),
    }
    assert extra == expected[name]


def test_the_tied_decoder_is_the_taken_word_table(tmp_path: Path) -> None:
    theirs = saved(BertForMaskedLM(bert_config()), tmp_path)
    model = model_of("vilbert")
    initialise_from_bert(model, tmp_path)
    state = model.state_dict()
    decoder = state["cls.predictions.decoder.weight"]
    assert decoder.data_ptr() == state["bert.embeddings.word_embeddings.weight"].data_ptr()
    assert torch.equal(decoder, theirs["bert.embeddings.word_embeddings.weight"])


def test_three_contrast_classes_leave_the_next_sentence_head(tmp_path: Path) -> None:
    saved(BertForPreTraining(bert_config()), tmp_path)
    taken = initialise_from_bert(model_of("oscar", num_contrast_classes=3), tmp_path)
    assert "cls.seq_relationship.weight" in taken.new


def test_lxmert_takes_the_first_layers_of_a_deeper_bert(tmp_path: Path) -> None:
    theirs = saved(BertForPreTraining(bert_config(num_hidden_layers=4)), tmp_path)
    model = model_of("lxmert")
    taken = initialise_from_bert(model, tmp_path)
    for number in range(2):
        key = f"bert.encoder.layer.{number}.output.dense.weight"
        assert torch.equal(model.state_dict()[key], theirs[key])
    assert not any(".r_layers." in key or ".x_layers." in key for key in taken.taken)
    with pytest.raises(RequestError, match=r"unknown    bert\.encoder\.layer\.\*"):
        initialise_from_bert(model_of("oscar"), tmp_path)


def test_cross_attention_is_new(tmp_path: Path) -> None:
    saved(BertForMaskedLM(bert_config()), tmp_path)
    taken = initialise_from_bert(model_of("xvlm"), tmp_path)
    crossing = [key for key in taken.new if "crossattention" in key]
    assert len(crossing) == 10
    assert {"temp", "itm_head.0.weight", "vision_proj.weight"} <= set(taken.new)


def old_bert(folder: Path) -> None:
    """bert-base-uncased as it lies on the hub: a pickle with gains called gamma."""
    originals.bert(old_spelling=True).write(folder)


def plain_model(folder: Path) -> None:
    saved(BertModel(bert_config()), folder)


@pytest.mark.parametrize("spelling", [old_bert, plain_model])
def test_other_spellings_are_the_same(spelling: object, tmp_path: Path) -> None:
    spelling(tmp_path)  # type: ignore[operator]
    model = model_of("oscar")
    taken = initialise_from_bert(model, tmp_path)
    assert "bert.encoder.layer.1.attention.output.LayerNorm.weight" in taken.taken
    has_head = spelling is old_bert
    assert ("cls.predictions.transform.LayerNorm.weight" in taken.taken) == has_head


def test_the_taken_text_computes_what_bert_does(tmp_path: Path) -> None:
    bert = BertModel(bert_config()).eval()
    saved(bert, tmp_path)
    model = model_of("oscar").eval()
    initialise_from_bert(model, tmp_path)
    words = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        ours, theirs = model.bert(words), bert(words)
    assert torch.allclose(ours.last_hidden_state, theirs.last_hidden_state, atol=1e-5)
    assert torch.allclose(ours.pooler_output, theirs.pooler_output, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 61}, "a vocabulary of 61 words, the model one of 60; set tokenizer.path"),
        ({"num_attention_heads": 4}, "has 4 attention heads, the model 2; set model.config"),
        ({"hidden_act": "relu"}, "hidden_act is not gelu"),
        ({"intermediate_size": 64}, r"mis-shaped bert\.encoder\.layer\.\*\.intermediate"),
        ({"num_hidden_layers": 1}, r"missing    bert\.encoder\.layer\.\*\.attention"),
    ],
)
def test_another_bert_is_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    saved(BertForMaskedLM(bert_config(**changes)), tmp_path)
    model = model_of("oscar")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(RequestError, match=message):
        initialise_from_bert(model, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_is_no_bert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="neither model"):
        initialise_from_bert(model_of("oscar"), tmp_path)
    torch.save(OrderedDict(weight=torch.zeros(2)), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(RequestError, match="weight is no tensor of BERT"):
        initialise_from_bert(model_of("oscar"), tmp_path)


def test_the_hash_says_which_bert_it_was(tmp_path: Path) -> None:
    saved(BertForMaskedLM(bert_config()), tmp_path)
    first = initialise_from_bert(model_of("oscar"), tmp_path)
    assert isinstance(first, Taken)
    assert len(first.sha256) == 64
    assert initialise_from_bert(model_of("lxmert"), tmp_path).sha256 == first.sha256
