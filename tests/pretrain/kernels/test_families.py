"""The families with kernels and without: the same losses, gradients and training curves.

Losses agree within 1e-5 of their size in float32 and gradients within 1e-5 of the largest number.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_pipeline.corpus.reader import Corpus
from pretrain import objectives
from pretrain.kernels import selection
from tests.pretrain import tiny_corpus
from tests.pretrain.models.test_packed_families import SETTINGS, made

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return written(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    selection.override({})


def written(folder: Path) -> Corpus:
    kinds = len(tiny_corpus.KINDS)
    extras = {"class_probs": kinds, "images": True, "regions_text": True, "questions": True}
    return Corpus(tiny_corpus.write(folder, "kernels", 24, unsure=True, **extras))


def learnt(
    model: torch.nn.Module, batch: dict[str, Tensor], weights: dict[str, float]
) -> tuple[set[str], dict[str, Tensor]]:
    """The names of the outputs, and the losses and all gradients by name."""
    model.zero_grad()
    outputs = model(**batch)
    total, losses = objectives.compute(outputs, batch, weights)
    total.backward()
    gradients = {
        name: each.grad for name, each in model.named_parameters() if each.grad is not None
    }
    return set(outputs), {**losses, **gradients}


@pytest.mark.parametrize("name", SETTINGS)
def test_without_the_scores_of_all_words_a_family_learns_the_same(
    corpus: Corpus, name: str
) -> None:
    model, batches, weights = made(corpus, *SETTINGS[name])
    model.train()
    for batch in batches:
        selection.override({})
        _, right = learnt(model, batch, weights)
        selection.override({"masked_prediction": "chunked"})
        outputs, found = learnt(model, batch, weights)
        assert "masked_token_losses" in outputs
        assert "prediction_logits" not in outputs
        assert found.keys() == right.keys()
        for key, value in found.items():
            bound = TOLERANCE * max(1.0, float(right[key].abs().max()))
            assert (value - right[key]).abs().max() <= bound, key
    model.eval()
    assert model(**batches[0]).prediction_logits is not None
