"""Dropout as a function of sample and token: the same masks padded, packed and in another order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from data_pipeline.corpus.reader import Corpus
from pretrain import construction, layer_options
from pretrain.batches.order import Place, SampleOrder
from pretrain.batches.row_batches import SAMPLE_NUMBERS
from pretrain.batches.stored import assembled
from pretrain.batches.tokenise import train_tokenizer
from pretrain.kernels.counter_dropout import CountedDropout, number_sites
from pretrain.models.families import family
from pretrain.objectives import compute
from pretrain.recipe import PretrainRecipe
from tests.pretrain import runs, tiny_corpus
from tests.pretrain.models.test_packed_families import SETTINGS
from trawl.errors import RequestError

HALF = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
FAMILIES = ["oscar", "imagebert", "vilbert", "vilbert with tasks", "lxmert"]
SEED = 2**62 + 11


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    extras = {"class_probs": KINDS, "images": True, "regions_text": True, "questions": True}
    folder: Path = tmp_path_factory.mktemp("counted")
    return Corpus(tiny_corpus.write(folder, "counted", 12, unsure=True, **extras))


KINDS = len(tiny_corpus.KINDS)


class Setting:
    """A model of a family, and what makes its batches."""

    def __init__(self, corpus: Corpus, name: str, **changes: Any) -> None:
        kind, wanted, settings = SETTINGS[name]
        self.weights = dict.fromkeys(wanted, 1.0)
        tokenizer = train_tokenizer((each.meta["captions"][0]["text"] for each in corpus), 200)
        vision = {key: 0.2 for key in settings if key.endswith("dropout_prob")}
        self.config = family(kind).configuration.of_size(
            "tiny", **{**settings, **HALF, **vision, **changes}, vocab_size=len(tokenizer),
            max_seq_length=24,
        )  # fmt: skip
        torch.manual_seed(0)
        self.model: PreTrainedModel = family(kind).pretraining(self.config)
        number_sites(self.model)
        self.makers = {
            layout: family(kind).batches(
                [corpus], tokenizer, self.config, self.weights, 0, "s",
                **({"packed": True} if layout == "packed" else {}),
            )
            for layout in ("padded", "packed")
        }  # fmt: skip
        for maker in self.makers.values():
            maker.numbered = True  # type: ignore[attr-defined]

    def learned(
        self, layout: str, places: Sequence[Place], seed: int | None = SEED
    ) -> tuple[dict[str, float], Tensor]:
        """The losses of a batch, and the gradient of all parameters."""
        batch = assembled(self.makers[layout].make_stored(places))
        samples = batch.pop(SAMPLE_NUMBERS)
        counted = {} if seed is None else {"counted": CountedDropout.of(samples, seed)}
        self.model.train()
        self.model.zero_grad()
        loss, parts = compute(self.model(**batch, **counted), batch, self.weights)
        loss.backward()
        grown = [each.grad.flatten() for each in self.model.parameters() if each.grad is not None]
        return {name: float(part) for name, part in parts.items()}, torch.cat(grown)


def places(corpus: Corpus) -> list[Place]:
    return list(SampleOrder([len(corpus)], [1.0], 0, "s").indices(0, 6))


def same(one: tuple[dict[str, float], Tensor], other: tuple[dict[str, float], Tensor]) -> None:
    assert other[0] == pytest.approx(one[0], abs=2e-5)
    assert torch.allclose(other[1], one[1], atol=2e-5 * float(one[1].norm()))


@pytest.mark.parametrize("name", FAMILIES)
def test_masks_are_the_same_packed_padded_and_in_another_order(corpus: Corpus, name: str) -> None:
    setting = Setting(corpus, name)
    where = places(corpus)
    padded = setting.learned("padded", where)
    same(padded, setting.learned("packed", where))
    same(padded, setting.learned("padded", where[::-1]))
    same(padded, setting.learned("packed", [*where[3:], *where[:3]]))
    # Something was dropped, and other masks belong to another step.
    for seed in (SEED + 1, None):
        others, _ = setting.learned("packed", where, seed)
        assert max(abs(others[key] - padded[0][key]) for key in others) > 1e-3


def test_regions_first_and_recomputed_layers_have_the_same_masks(corpus: Corpus) -> None:
    setting = Setting(corpus, "imagebert", block_order="regions-first")
    where = places(corpus)
    padded = setting.learned("padded", where)
    same(padded, setting.learned("packed", where))
    layer_options.recompute(setting.model)
    same(padded, setting.learned("packed", where))
    same(padded, setting.learned("padded", where))


def test_every_dropout_is_counted(corpus: Corpus) -> None:
    """Two passes from different states of torch's generator are equal bit for bit."""
    for name in FAMILIES:
        setting = Setting(corpus, name)
        for layout in ("padded", "packed"):
            torch.manual_seed(1)
            one = setting.learned(layout, places(corpus))
            torch.manual_seed(2)
            other = setting.learned(layout, places(corpus))
            assert torch.equal(one[1], other[1]), (name, layout)


def test_a_model_that_is_not_trained_drops_nothing(corpus: Corpus) -> None:
    setting = Setting(corpus, "oscar")
    setting.model.eval()
    batch = assembled(setting.makers["packed"].make_stored(places(corpus)))
    counted = CountedDropout.of(batch.pop(SAMPLE_NUMBERS), SEED)
    with torch.no_grad():
        one, other = setting.model(**batch), setting.model(**batch, counted=counted)
    assert torch.equal(one.prediction_logits, other.prediction_logits)


def test_xvlm_takes_drawn_masks_alone(corpus: Corpus) -> None:
    content = runs.recipe(corpus.uri, corpus.uri, "run")
    content["stages"][0] |= {"dropout": "counted", "objectives": {"mlm": 1.0}}
    recipe = PretrainRecipe.model_validate(content)
    tokenizer = train_tokenizer(["a red cube"], 64)
    config = family("xvlm").configuration.of_size("tiny", vocab_size=len(tokenizer))
    with pytest.raises(RequestError, match=r"stage out: dropout: xvlm takes drawn masks alone"):
        construction.batches(recipe, recipe.stages[0], [corpus], tokenizer, config)
