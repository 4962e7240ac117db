"""The families with kernels and without: the same losses, gradients and training curves.

In float32 losses and gradients agree within 1e-5 of the largest number; with float16 or int8
features through all kernels within 2e-5; losses of four steps of AdamW within 1e-4.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_pipeline.corpus.reader import Corpus
from pretrain import objectives
from pretrain.batches.row_batches import SAMPLE_NUMBERS
from pretrain.batches.stored import REGIONS, SCALES, StoredFeatures, assembled, placed
from pretrain.kernels import selection
from pretrain.kernels.counter_dropout import CountedDropout
from tests.pretrain import tiny_corpus
from tests.pretrain.kernels.interpreter import interpreted, needs_triton
from tests.pretrain.models.test_counted_dropout import SEED, Setting, places
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


OWN = ("region_embedding", "masked_prediction")
KERNELS = dict.fromkeys(OWN, "triton")
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# The families that read regions, and Oscar+ with its norm.
WITH_REGIONS = {
    "oscar": {},
    "oscar without heads of regions": {"use_img_layernorm": True},
    "imagebert": {},
    "vilbert": {},
    "vilbert with tasks": {},
    "lxmert": {},
}


def as_int8(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with its features as int8 and scales, as a corpus of int8 features brings them."""
    found = dict(batch)
    for name in REGIONS & batch.keys():
        scales = (batch[name].float().abs().amax(dim=-1) / 127).half().clamp(min=1e-4)
        rounded = (batch[name].float() / scales.float()[..., None]).round()
        found[name] = rounded.clamp(-127, 127).to(torch.int8)
        found[name + SCALES] = scales
    return found


def passed(setting: Setting, stored: dict[str, Tensor], by: dict[str, str]) -> dict[str, Any]:
    """What a training pass of a batch gives by the implementations `by`."""
    selection.override(by)
    read = placed(stored, torch.device("cpu"))
    features = next(read[name] for name in REGIONS if name in read)
    assert isinstance(features, StoredFeatures) is (by == KERNELS)
    samples = read.pop(SAMPLE_NUMBERS)
    read["counted"] = CountedDropout.of(samples, SEED)
    setting.model.train()
    setting.model.zero_grad()
    batch = {name: value for name, value in read.items() if name != "counted"}
    total, losses = objectives.compute(setting.model(**read), batch, setting.weights)
    total.backward()
    gradients = {
        name: each.grad for name, each in setting.model.named_parameters() if each.grad is not None
    }
    return {**losses, **gradients}


def _check(setting: Setting, stored: dict[str, Tensor]) -> None:
    plain = passed(setting, stored, {})
    fused = passed(setting, stored, KERNELS)
    assert fused.keys() == plain.keys()
    for name, value in fused.items():
        bound = 2 * TOLERANCE * max(1.0, float(plain[name].abs().max()))
        apart = float((value - plain[name]).abs().max())
        assert apart <= bound, (name, apart, bound)


def check_families() -> None:
    """Packed and padded, features float16 and int8, with dropout."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = written(Path(folder))
        for name, changes in WITH_REGIONS.items():
            setting = Setting(corpus, name, **changes)
            packed, padded = (
                setting.makers[layout].make_stored(places(corpus)[:3])
                for layout in ("packed", "padded")
            )
            _check(setting, packed)
            _check(setting, as_int8(padded))


def check_drawn_dropout_and_whole_features() -> None:
    """Masks of torch's generator, and features that are whole: both are the kernels' too."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = written(Path(folder))
        oscar = Setting(corpus, "oscar")
        assembled_already = assembled(oscar.makers["packed"].make_stored(places(corpus)[:2]))
        _check(oscar, assembled_already)
        setting = Setting(corpus, "imagebert", **STILL)
        stored = setting.makers["packed"].make_stored(places(corpus)[:3])
        samples = stored.pop(SAMPLE_NUMBERS)
        assert len(samples) == 3
        whole = placed(stored, torch.device("cpu"))
        _, right = learnt(setting.model, whole, setting.weights)
        selection.override(KERNELS)
        _, found = learnt(setting.model, whole, setting.weights)
        for name, value in found.items():
            bound = 2 * TOLERANCE * max(1.0, float(right[name].abs().max()))
            assert (value - right[name]).abs().max() <= bound, name
        setting.model.bert.dropout.p = 0.5
        setting.model.train()
        torch.manual_seed(0)
        _, dropped = learnt(setting.model, whole, setting.weights)
        assert (dropped["mlm"] - right["mlm"]).abs() > 1e-4


def check_curves() -> None:
    """Four steps of AdamW of each family, with all kernels and with none."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = written(Path(folder))
        for name in ("oscar", "imagebert", "vilbert", "lxmert"):
            curves = []
            for by in ({}, KERNELS):
                setting = Setting(corpus, name)
                batch = setting.makers["packed"].make_stored(places(corpus)[:3])
                optimizer = torch.optim.AdamW(setting.model.parameters(), lr=1e-3)
                losses = []
                for _ in range(4):
                    found = passed(setting, batch, by)
                    optimizer.step()
                    losses.append(sum(float(found[key]) for key in setting.weights))
                curves.append(losses)
            assert curves[0][-1] < curves[0][0]
            assert curves[1] == pytest.approx(curves[0], abs=1e-4), name


def check_curve_of_xvlm() -> None:
    """The same of X-VLM, which has patches to embed and no regions: by the kernel for its words."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = written(Path(folder))
        curves = []
        for by in ({}, {"masked_prediction": "triton"}):
            selection.override(by)
            model, (_, packed), weights = made(corpus, *SETTINGS["xvlm of images"])
            model.train()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            losses = []
            for step in range(4):
                torch.manual_seed(step)  # of the hard negatives that are drawn
                outputs, found = learnt(model, packed, weights)
                assert ("masked_token_losses" in outputs) is bool(by)
                optimizer.step()
                losses.append(sum(float(found[key].detach()) for key in weights))
            curves.append(losses)
        assert curves[0][-1] < curves[0][0]
        assert curves[1] == pytest.approx(curves[0], abs=1e-4)


@needs_triton
@pytest.mark.slow
def test_with_kernels_a_family_learns_the_same() -> None:
    interpreted(check_families, check_drawn_dropout_and_whole_features)


@needs_triton
@pytest.mark.slow
def test_training_curves_are_the_same_with_kernels() -> None:
    interpreted(check_curves, check_curve_of_xvlm)
