"""Prediction heads that the families share."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pretrain.kernels.masked_prediction import token_losses
from pretrain.kernels.selection import chosen
from pretrain.models.blocks import BlockShape


def at_places(states: Tensor, places: Tensor | None) -> Tensor:
    """Return the states [places, hidden] at flattened `places`, or all [batch, length, hidden]."""
    return states if places is None else states.flatten(0, 1).index_select(0, places)


class PredictionTransform(nn.Module):
    """LN(gelu(dense(states))), what BERT puts before a decoder."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.hidden, shape.hidden)
        self.LayerNorm = shape.norm()

    def forward(self, states: Tensor) -> Tensor:
        """Return [..., hidden]."""
        transformed: Tensor = self.LayerNorm(functional.gelu(self.dense(states)))
        return transformed


class MaskedTokenHead(nn.Module):
    """Scores of all words for each state; the decoder is tied to the word table by the model."""

    def __init__(self, shape: BlockShape, words: int) -> None:
        super().__init__()
        self.transform = PredictionTransform(shape)
        self.decoder = nn.Linear(shape.hidden, words, bias=False)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, states: Tensor, labels: Tensor | None = None, by: str = "plain") -> Tensor:
        """Return scores [..., words] from [..., hidden].

        With labels int64 [...], -1 where nothing is predicted, the losses float32 [...] instead, by
        the implementation `by` of masked prediction, without keeping the scores.
        """
        transformed = self.transform(states)
        if labels is None:
            scores: Tensor = self.decoder(transformed) + self.bias
            return scores
        parts = (transformed.flatten(0, -2), self.decoder.weight, self.bias, labels.flatten())
        return token_losses(*parts, by).view(labels.shape)

    def said(self, states: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return prediction_logits, or where a kernel learns from `targets`, masked_token_losses.

        states [..., hidden]; targets: those of the batch, by name.
        """
        labels = targets.get("masked_labels")
        if labels is not None and self.training:
            by = chosen("masked_prediction", states.device, states.dtype)
            if by != "plain":
                return {"masked_token_losses": self(states, labels, by)}
        return {"prediction_logits": self(states)}


class RegionHeads(nn.Module):
    """What a single-stream model says about regions: which object each is, and its feature.

    Both are one layer without a transform before it (ImageBERT, Qi et al., 2020, section 4.2);
    0 classes or a feature of 0 numbers leave a head out.
    """

    def __init__(self, hidden: int, classes: int, feature: int) -> None:
        super().__init__()
        self.object_classifier = nn.Linear(hidden, classes) if classes else None
        self.feature_regressor = nn.Linear(hidden, feature) if feature else None

    def read(self, predicted: Tensor | None, device: torch.device) -> Tensor | None:
        """Return `predicted`, or no place at all where there is no head to read any."""
        if self.object_classifier is None and self.feature_regressor is None:
            return torch.zeros(0, dtype=torch.long, device=device)
        return predicted

    def about_regions(self, states: Tensor) -> dict[str, Tensor]:
        """Return object_logits and feature_predictions [..., numbers] of the heads there are.

        states [..., hidden].
        """
        found = {}
        if self.object_classifier is not None:
            found["object_logits"] = self.object_classifier(states)
        if self.feature_regressor is not None:
            found["feature_predictions"] = self.feature_regressor(states)
        return found
