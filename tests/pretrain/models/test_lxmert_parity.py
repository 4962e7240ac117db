"""LXMERT against transformers' LxmertForPreTraining: states, logits and every loss.

The reference differs in three numbers, which are converted here: it masks with the least float
instead of -10000 (no difference after the softmax), ignores -100 instead of -1, and multiplies the
losses of regions by 6.67 instead of 1 / 0.15.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LxmertConfig as ReferenceConfig
from transformers import LxmertForPreTraining as Reference

from pretrain.models.lxmert import LxmertForPreTraining
from pretrain.models.lxmert_config import LxmertConfig
from pretrain.objectives import compute

TOLERANCE = 1e-5
BATCH, TEXT, REGIONS = 3, 20, 36
SHARED: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 96,
    "num_attention_heads": 12,
    "intermediate_size": 384,
    "l_layers": 9,
    "r_layers": 5,
    "x_layers": 5,
    "max_position_embeddings": 64,
    "visual_feat_dim": 64,
    "num_object_labels": 16,
    "num_attr_labels": 9,
    "num_qa_labels": 30,
}
REFERENCE_FACTOR = 6.67


@dataclass
class Pair:
    """Our model and the reference with the same random weights."""

    ours: LxmertForPreTraining
    reference: Reference


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def pair(request: pytest.FixtureRequest) -> Pair:
    torch.manual_seed(3)
    config = LxmertConfig(**SHARED)
    ours = LxmertForPreTraining._from_config(config, attn_implementation=request.param).eval()
    for module in ours.modules():
        for name, parameter in module.named_parameters(recurse=False):
            # Gains around one, so that the states are as large as in a trained model.
            gain = isinstance(module, torch.nn.LayerNorm) and name == "weight"
            torch.nn.init.normal_(parameter, mean=float(gain), std=0.1)
    ours.tie_weights()
    reference = Reference(ReferenceConfig(**SHARED)).eval()
    renamed = {
        ("lxmert." + name.removeprefix("bert.") if name.startswith("bert.") else name): tensor
        for name, tensor in ours.state_dict().items()
    }
    reference.load_state_dict(renamed, strict=True)
    return Pair(ours, reference)


def inputs(padded: bool, regions_padded: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(4)
    mask = torch.ones(BATCH, TEXT, dtype=torch.long)
    if padded:
        mask[1, 7:] = 0
        mask[2, 15:] = 0
    batch = {
        "input_ids": torch.randint(0, SHARED["vocab_size"], (BATCH, TEXT)) * mask,
        "token_type_ids": torch.zeros(BATCH, TEXT, dtype=torch.long),
        "attention_mask": mask,
        "visual_feats": torch.randn(BATCH, REGIONS, SHARED["visual_feat_dim"]),
        "visual_pos": torch.rand(BATCH, REGIONS, 4),
    }
    if regions_padded:
        seen = torch.ones(BATCH, REGIONS, dtype=torch.long)
        seen[0, 10:] = 0
        batch["visual_attention_mask"] = seen
    return batch


def far(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


@pytest.mark.parametrize("padded", [False, True])
def test_states_of_both_streams_agree_in_every_layer(pair: Pair, padded: bool) -> None:
    batch = inputs(padded, regions_padded=padded)
    with torch.no_grad():
        ours = pair.ours.bert(**batch, output_hidden_states=True)
        reference = pair.reference.lxmert(**batch, output_hidden_states=True)
    # The reference leaves the embeddings out.
    for own, other in (
        (ours.text_hidden_states[1:], reference.language_hidden_states),
        (ours.region_hidden_states[1:], reference.vision_hidden_states),
    ):
        assert len(own) == len(other)
        assert max(far(a, b) for a, b in zip(own, other, strict=True)) <= TOLERANCE
    assert len(ours.text_hidden_states) == 1 + 9 + 5
    assert len(ours.region_hidden_states) == 1 + 5 + 5
    assert far(ours.last_hidden_state, reference.language_output) <= TOLERANCE
    assert far(ours.regions_hidden_state, reference.vision_output) <= TOLERANCE
    assert far(ours.pooler_output, reference.pooled_output) <= TOLERANCE


def targets(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Targets as our batches name them, all regions predicted as published."""
    torch.manual_seed(5)
    chosen = (torch.rand(BATCH, TEXT) < 0.3) & batch["attention_mask"].bool()
    places = chosen.flatten().nonzero().flatten()
    regions = BATCH * REGIONS
    return {
        "masked_positions": places,
        "masked_labels": torch.randint(0, SHARED["vocab_size"], places.shape),
        "match_labels": torch.tensor([1, 0, 1]),
        "answer_labels": torch.tensor([4, -1, 29]),
        "predicted_regions": torch.arange(regions),
        "object_labels": torch.randint(0, SHARED["num_object_labels"], (regions,)),
        "object_weights": torch.rand(regions),
        "attribute_labels": torch.randint(0, SHARED["num_attr_labels"], (regions,)),
        "attribute_weights": torch.rand(regions),
        "feature_targets": torch.randn(regions, SHARED["visual_feat_dim"]),
        "feature_weights": (torch.rand(regions) < 0.15).float(),
        "region_normaliser": torch.tensor(regions * 0.15),
    }


def ignored(labels: Tensor) -> Tensor:
    return labels.where(labels >= 0, -100)


def reference_losses(
    reference: Reference, batch: dict[str, Tensor], wanted: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Each loss of the reference alone, with its numbers converted to the published ones."""
    labels = torch.full((BATCH * TEXT,), -100)
    labels[wanted["masked_positions"]] = wanted["masked_labels"]

    def region(key: str, target: Tensor, weights: Tensor) -> Tensor:
        nothing = torch.zeros(BATCH, REGIONS)
        every = {
            "obj": (torch.zeros(BATCH, REGIONS, dtype=torch.long), nothing),
            "attr": (torch.zeros(BATCH, REGIONS, dtype=torch.long), nothing),
            "feat": (torch.zeros(BATCH, REGIONS, SHARED["visual_feat_dim"]), nothing),
        }
        shaped = target.reshape(BATCH, REGIONS, *target.shape[1:])
        every[key] = (shaped, weights.reshape(BATCH, REGIONS))
        return reference(**batch, obj_labels=every).loss / REFERENCE_FACTOR / 0.15

    return {
        "mlm": reference(**batch, labels=labels.reshape(BATCH, TEXT)).loss,
        "itm": reference(**batch, matched_label=wanted["match_labels"]).loss,
        "moc-confidence": region("obj", wanted["object_labels"], wanted["object_weights"]),
        "attributes": region("attr", wanted["attribute_labels"], wanted["attribute_weights"]),
        "mrfr-smooth-l1": region("feat", wanted["feature_targets"], wanted["feature_weights"]),
        "qa": reference(**batch, ans=ignored(wanted["answer_labels"])).loss,
    }


@pytest.mark.parametrize("padded", [False, True])
def test_every_loss_agrees(pair: Pair, padded: bool) -> None:
    batch = inputs(padded)
    wanted = targets(batch)
    with torch.no_grad():
        expected = reference_losses(pair.reference, batch, wanted)
        total, losses = compute(pair.ours(**batch, **wanted), wanted, dict.fromkeys(expected, 1.0))
    assert set(losses) == set(expected)
    for name, value in losses.items():
        assert float(value) == pytest.approx(float(expected[name]), rel=TOLERANCE), name
    assert float(total) == pytest.approx(float(sum(expected.values())), rel=TOLERANCE)


def test_logits_of_all_heads_agree(pair: Pair) -> None:
    batch = inputs(padded=True)
    with torch.no_grad():
        ours, reference = pair.ours(**batch), pair.reference(**batch)
        states = pair.reference.lxmert(**batch).vision_output
        regions = pair.reference.obj_predict_head(states)
    assert far(ours.prediction_logits, reference.prediction_logits) <= TOLERANCE
    assert far(ours.match_logits, reference.cross_relationship_score) <= TOLERANCE
    assert far(ours.answer_logits, reference.question_answering_score) <= TOLERANCE
    assert far(ours.object_logits, regions["obj"]) <= TOLERANCE
    assert far(ours.attribute_logits, regions["attr"]) <= TOLERANCE
    assert far(ours.feature_predictions, regions["feat"]) <= TOLERANCE


def test_gradients_agree(pair: Pair) -> None:
    batch = inputs(padded=True)
    pair.ours.zero_grad()
    pair.reference.zero_grad()
    pair.ours(**batch).answer_logits.square().mean().backward()
    pair.reference(**batch).question_answering_score.square().mean().backward()
    others = dict(pair.reference.named_parameters())
    for name, parameter in pair.ours.bert.named_parameters():
        gradient = others[f"lxmert.{name}"].grad
        if gradient is not None:
            assert far(parameter.grad, gradient) <= TOLERANCE, name
