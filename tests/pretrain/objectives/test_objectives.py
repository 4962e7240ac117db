"""Each loss by hand, their polarity, and their weighted sum."""

import math

import pytest
import torch

from pretrain import objectives
from pretrain.models.oscar_config import OscarConfig
from pretrain.objectives import masked_tokens, matching, tag_contrast
from trawl.errors import RequestError


def test_masked_tokens_are_averaged_over_those_that_count() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    labels = torch.tensor([0, 1, -1])
    by_hand = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert float(masked_tokens.loss(logits, labels)) == pytest.approx(by_hand, rel=1e-6)
    square = masked_tokens.loss(logits[None], labels[None])
    assert float(square) == pytest.approx(by_hand, rel=1e-6)


def test_a_batch_without_masked_tokens_costs_nothing_and_can_be_learned_from() -> None:
    logits = torch.zeros(0, 7, requires_grad=True)
    loss = masked_tokens.loss(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_clean_pairs_are_class_zero_of_the_contrast() -> None:
    sure_of_clean = torch.tensor([[9.0, 0.0, 0.0]])
    assert float(tag_contrast.loss(sure_of_clean, torch.tensor([0]))) < 0.01
    assert float(tag_contrast.loss(sure_of_clean, torch.tensor([2]))) > 8


def test_clean_scores_weigh_clean_against_another_caption() -> None:
    two_way = tag_contrast.clean_scores(torch.tensor([[3.0, 1.0]]))
    three_way = tag_contrast.clean_scores(torch.tensor([[3.0, 50.0, 2.0]]))
    assert (two_way.tolist(), three_way.tolist()) == ([2.0], [1.0])


def test_matching_pairs_are_class_one() -> None:
    sure_of_match = torch.tensor([[0.0, 9.0]])
    assert float(matching.loss(sure_of_match, torch.tensor([1]))) < 0.01
    assert float(matching.loss(sure_of_match, torch.tensor([0]))) > 8


def test_the_total_is_the_weighted_sum() -> None:
    outputs = {
        "prediction_logits": torch.randn(4, 9, requires_grad=True),
        "seq_relationship_logits": torch.randn(2, 3, requires_grad=True),
    }
    batch = {"masked_labels": torch.tensor([1, 2, 3, 4]), "contrast_labels": torch.tensor([0, 2])}
    total, losses = objectives.compute(outputs, batch, {"mlm": 2.0, "contrast": 0.5})
    expected = 2 * losses["mlm"] + 0.5 * losses["contrast"]
    assert float(total.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert not losses["mlm"].requires_grad
    total.backward()
    assert outputs["seq_relationship_logits"].grad is not None
    alone, named = objectives.compute(outputs, batch, {"contrast": 1.0})
    assert list(named) == ["contrast"]
    assert torch.equal(alone.detach(), named["contrast"])


def test_unknown_objectives_and_missing_heads_are_refused() -> None:
    with pytest.raises(RequestError, match="unknown key mock"):
        objectives.check_objectives({"mock": 1.0}, OscarConfig())
    with pytest.raises(RequestError, match="itm needs a head"):
        objectives.check_objectives({"itm": 1.0}, OscarConfig())
    objectives.check_objectives({"itm": 1.0, "mlm": 1.0}, OscarConfig(match_head=True))


class Boxes:
    """A configuration whose model learns boxes, and contrast once its head is on."""

    def objectives(self) -> dict[str, str | None]:
        return {"bbox": None, "itc": "set model.config.contrast_head to true"}


def test_a_form_of_an_objective_needs_the_same_head() -> None:
    objectives.check_objectives(["bbox", "bbox-published"], Boxes())
    with pytest.raises(RequestError, match="itc-published needs a head; set model"):
        objectives.check_objectives(["itc-published"], Boxes())
    with pytest.raises(RequestError, match="knows no qa; take bbox, itc"):
        objectives.check_objectives(["qa"], Boxes())
    assert objectives.asked(["mlm", "bbox-published"]) == {"mlm", "bbox", "bbox-published"}


def test_what_is_missing_is_named_with_its_objective() -> None:
    with pytest.raises(RequestError, match="moc needs the model's object_logits"):
        objectives.compute({}, {"object_labels": torch.zeros(1)}, {"moc": 1.0})
    with pytest.raises(RequestError, match="moc needs object_labels, which the batch"):
        objectives.compute({"object_logits": torch.zeros(1, 2)}, {}, {"moc": 1.0})


def test_the_batch_may_leave_out_what_is_optional() -> None:
    outputs = {
        "image_embeds": torch.eye(2),
        "text_embeds": torch.eye(2),
        "temperature": torch.tensor(1.0),
    }
    alone, _ = objectives.compute(outputs, {}, {"itc": 1.0})
    together, _ = objectives.compute(outputs, {"match_groups": torch.zeros(2)}, {"itc": 1.0})
    assert float(alone) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(together) == pytest.approx(math.log(1 + math.exp(-1)) + 0.5)


EMPTY = {
    "prediction_logits": (0, 7),
    "seq_relationship_logits": (0, 3),
    "match_logits": (0, 2),
    "hard_match_logits": (0, 2),
    "object_logits": (0, 5),
    "attribute_logits": (0, 4),
    "feature_predictions": (0, 6),
    "image_embeds": (0, 8),
    "text_embeds": (0, 8),
    "box_predictions": (0, 4),
    "answer_logits": (0, 9),
    "object_probabilities": (0, 5),
    "feature_targets": (0, 6),
    "box_targets": (0, 4),
    "answer_scores": (0, 9),
}


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_nothing_to_predict_costs_nothing_and_moves_nothing(name: str) -> None:
    objective = objectives.OBJECTIVES[name]
    outputs = {
        each: torch.zeros(EMPTY.get(each, ()), requires_grad=True) for each in objective.outputs
    }
    batch = {
        target: torch.zeros(EMPTY[target])
        if target in EMPTY
        else torch.tensor(0.0)
        if target == "region_normaliser"
        else torch.zeros(0, dtype=torch.long)
        for target in objective.targets
    }
    if "temperature" in outputs:
        outputs["temperature"] = torch.tensor(0.07, requires_grad=True)
    total, _ = objectives.compute(outputs, batch, {name: 2.0})
    assert float(total.detach()) == 0.0
    total.backward()
    assert not any(each.grad.any() for each in outputs.values() if each.grad is not None)


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
def test_half_precision_is_reckoned_in_single(name: str) -> None:
    objective = objectives.OBJECTIVES[name]
    outputs = {
        each: torch.rand(3, *EMPTY[each][1:], dtype=torch.bfloat16)
        for each in objective.outputs
        if each in EMPTY
    } | {"temperature": torch.tensor(0.5, dtype=torch.bfloat16)}
    batch = {
        target: torch.rand(3, *EMPTY[target][1:])
        if target in EMPTY
        else torch.tensor(2.0)
        if target == "region_normaliser"
        else torch.ones(3, dtype=torch.long)
        for target in objective.targets
    }
    half, _ = objectives.compute(outputs, batch, {name: 1.0})
    single = {each: value.float() for each, value in outputs.items()}
    full, _ = objectives.compute(single, batch, {name: 1.0})
    assert half.dtype == torch.float32
    assert torch.equal(half, full)
    assert float(full) > 0


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("mlm", {"masked_labels": torch.tensor([-1, -1])}),
        ("moc", {"object_labels": torch.tensor([-1, -1])}),
        ("qa", {"answer_labels": torch.tensor([-1, -1])}),
        (
            "moc-confidence",
            {
                "object_labels": torch.tensor([1, 0]),
                "object_weights": torch.ones(2),
                "region_normaliser": torch.tensor(0.0),
            },
        ),
        (
            "mrfr-smooth-l1",
            {
                "feature_targets": torch.zeros(2, 4),
                "feature_weights": torch.ones(2),
                "region_normaliser": torch.tensor(0.0),
            },
        ),
    ],
)
def test_rows_of_which_none_counts_cost_nothing_and_move_nothing(
    name: str, targets: dict[str, torch.Tensor]
) -> None:
    (output,) = objectives.OBJECTIVES[name].outputs
    said = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    total, _ = objectives.compute({output: said}, targets, {name: 1.0})
    total.backward()
    assert float(total.detach()) == 0.0
    assert said.grad is not None
    assert not said.grad.any()
