"""The objectives, one file each: pure functions of what a model says and what it should say.

A recipe names them and their weights (`objectives: {mlm: 1.0, itm: 1.0}`). Where released code
differs from the sound form, each form has a name of its own, such as itc and itc-published.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pretrain.objectives import (
    box_regression,
    feature_regression,
    image_text_contrast,
    masked_tokens,
    matching,
    object_classification,
    question_answering,
    tag_contrast,
)
from trawl.errors import RequestError


@dataclass(frozen=True)
class Objective:
    """A loss, and the names of the tensors that it takes, in the order of its arguments."""

    loss: Callable[..., Tensor]
    outputs: tuple[str, ...]
    """What it takes from the model."""
    targets: tuple[str, ...]
    """What it takes from the batch."""
    optional: tuple[str, ...] = ()
    """Targets that a batch may leave out; they come last, None where they are not there."""
    form_of: str | None = None
    """The objective of which this is another form: the same outputs and the same batches."""
    fused: "Objective | None" = None
    """The same objective, of what a model's kernel made in place of the outputs."""

    def made_of(self, outputs: Mapping[str, Tensor]) -> "Objective":
        """Return the objective as it is computed from what the model did return."""
        fused = self.fused
        if fused is None or any(outputs.get(name) is None for name in fused.outputs):
            return self
        return fused


OBJECTIVES = {
    "mlm": Objective(
        masked_tokens.loss,
        ("prediction_logits",),
        ("masked_labels",),
        fused=Objective(masked_tokens.mean, ("masked_token_losses",), ("masked_labels",)),
    ),
    "contrast": Objective(tag_contrast.loss, ("seq_relationship_logits",), ("contrast_labels",)),
    "itm": Objective(matching.loss, ("match_logits",), ("match_labels",)),
    "itm-hard": Objective(matching.hard_loss, ("hard_match_logits",), ()),
    "moc": Objective(object_classification.loss, ("object_logits",), ("object_labels",)),
    "moc-confidence": Objective(
        object_classification.confidence_loss,
        ("object_logits",),
        ("object_labels", "object_weights", "region_normaliser"),
    ),
    "attributes": Objective(
        object_classification.confidence_loss,
        ("attribute_logits",),
        ("attribute_labels", "attribute_weights", "region_normaliser"),
    ),
    "moc-kl": Objective(
        object_classification.distribution_loss, ("object_logits",), ("object_probabilities",)
    ),
    "mrfr": Objective(feature_regression.loss, ("feature_predictions",), ("feature_targets",)),
    "mrfr-smooth-l1": Objective(
        feature_regression.smooth_loss,
        ("feature_predictions",),
        ("feature_targets", "feature_weights", "region_normaliser"),
    ),
    "itc": Objective(
        image_text_contrast.loss,
        ("image_embeds", "text_embeds", "temperature"),
        (),
        optional=("match_groups",),
    ),
    "itc-published": Objective(
        image_text_contrast.published_loss,
        ("image_embeds", "text_embeds", "temperature"),
        (),
        optional=("match_groups",),
        form_of="itc",
    ),
    "bbox": Objective(box_regression.loss, ("box_predictions",), ("box_targets", "box_valid")),
    "bbox-published": Objective(
        box_regression.published_loss,
        ("box_predictions",),
        ("box_targets", "box_valid"),
        form_of="bbox",
    ),
    "qa": Objective(question_answering.loss, ("answer_logits",), ("answer_labels",)),
    "qa-soft": Objective(question_answering.soft_loss, ("answer_logits",), ("answer_scores",)),
}

TARGETS = frozenset(
    name for objective in OBJECTIVES.values() for name in (*objective.targets, *objective.optional)
)
"""Every tensor of a batch that is for the objectives alone; a model passes over it."""


class Heads(Protocol):
    """A family's configuration, as far as it says which objectives its model can learn."""

    def objectives(self) -> Mapping[str, str | None]:
        """Return each objective of the family: None if its head is there, else the fix."""


def asked(names: Iterable[str]) -> frozenset[str]:
    """Return `names` and the objectives of which they are forms: what a batch must serve."""
    forms = (OBJECTIVES[name].form_of for name in names)
    return frozenset(names) | frozenset(form for form in forms if form is not None)


def check_targets(names: Iterable[str]) -> None:
    """Raise TypeError for a name beside a model's inputs that is no target of an objective."""
    if unknown := set(names) - TARGETS:
        raise TypeError(f"forward() has no argument {sorted(unknown)[0]}")


def check_objectives(names: Iterable[str], config: Heads) -> None:
    """Raise RequestError for an objective that is unknown or that the model has no head for."""
    heads = config.objectives()
    for name in names:
        if name not in OBJECTIVES:
            raise RequestError(f"objectives: unknown key {name}; known: {', '.join(OBJECTIVES)}")
        head = name if name in heads else OBJECTIVES[name].form_of or name
        if head not in heads:
            raise RequestError(
                f"objectives: this model knows no {name}; take {', '.join(heads) or 'another'}"
            )
        if (fix := heads[head]) is not None:
            raise RequestError(f"objectives: {name} needs a head; {fix}")


def compute(
    outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor], weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of the losses named in `weights`, and each of them, detached.

    outputs: a model's output; batch: the batch that it read, with the targets. Raises RequestError
    where one of them lacks what an objective takes.
    """
    asked_for = {
        name: objective.made_of(outputs)
        for name, objective in OBJECTIVES.items()
        if name in weights
    }
    losses = {
        name: objective.loss(*_arguments(name, objective, outputs, batch))
        for name, objective in asked_for.items()
    }
    total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    return total, {name: value.detach() for name, value in losses.items()}


def _arguments(
    name: str, objective: Objective, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
) -> list[Tensor | None]:
    """Return what the loss takes; RequestError names the first tensor that is not there."""
    for output in objective.outputs:
        if outputs.get(output) is None:
            raise RequestError(
                f"objectives: {name} needs the model's {output}, which this model did not return; "
                "take an objective of this family, or switch its head on in model.config"
            )
    for target in objective.targets:
        if batch.get(target) is None:
            raise RequestError(
                f"objectives: {name} needs {target}, which the batch does not hold; "
                "take an objective that the batches of this family serve"
            )
    return [
        *(outputs[output] for output in objective.outputs),
        *(batch[target] for target in objective.targets),
        *(batch.get(target) for target in objective.optional),
    ]
