"""Prediction heads that the families share."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pretrain.models.blocks import BlockShape


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

    def forward(self, states: Tensor) -> Tensor:
        """Return [..., words] from [..., hidden]."""
        scores: Tensor = self.decoder(self.transform(states)) + self.bias
        return scores
