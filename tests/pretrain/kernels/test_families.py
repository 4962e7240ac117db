"""The families with kernels and without: the same losses, gradients and training curves.

In float32 losses and gradients agree within 1e-5 of the largest number; with float16 or int8
features through all kernels within 2e-5; losses of three steps of AdamW within 1e-4.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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
    assert isinstance(features, StoredFeatures) is (by.get("region_embedding") == "triton")
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


FUSED = (*OWN, "dropout_residual_norm", "packed_attention")
# What each family's model takes of the table, on packed batches. X-VLM has patches in place of
# regions, and drawn masks alone, which no kernel draws.
USED = {
    **dict.fromkeys(("oscar", "imagebert", "vilbert", "lxmert"), FUSED),
    "xvlm of images": ("masked_prediction", "packed_attention"),
    "xvlm of regions": ("masked_prediction", "packed_attention"),
}
# One head, and as few layers as have all that a family has: a program of the attention's kernels
# takes the interpreter milliseconds.
SMALLEST = {
    "oscar": {"num_attention_heads": 1, "num_hidden_layers": 2},
    "imagebert": {"num_attention_heads": 1, "num_hidden_layers": 2},
    "vilbert": {f"{stream}num_attention_heads": 1 for stream in ("", "v_", "bi_")},
    "lxmert": {"num_attention_heads": 1, "l_layers": 1, "x_layers": 1},
    "xvlm": {"num_attention_heads": 1, "num_hidden_layers": 2, "fusion_layer": 1},
}
# The operation of torch by which a kernel of the table is called.
CALLED = {
    "dropout_residual_norm": "dropout_residual_norm",
    "packed_attention": "packed_attention",
    "region_embedding": "region_rows",
    "masked_prediction": "token_losses",
}


class Called(TorchDispatchMode):
    """Which operations of ours a pass calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if operation.namespace == "trawl":
            self.names.add(operation.name().removeprefix("trawl::"))
        return operation(*args, **(kwargs or {}))


def curve(corpus: Corpus, name: str, by: dict[str, str]) -> tuple[list[float], set[str]]:
    """The losses of three steps of AdamW by the implementations `by`, and what of ours was called.

    With dropout, but for X-VLM.
    """
    kind, wanted, changes = SETTINGS[name]
    setting: Setting | None = None
    if kind == "xvlm":
        smaller = {**changes, **SMALLEST[kind]}
        model, (_, batch), weights = made(corpus, kind, wanted, smaller, samples=3)
        model.train()
    else:
        setting = Setting(corpus, name, **SMALLEST[kind])
        model, weights = setting.model, setting.weights
        batch = setting.makers["packed"].make_stored(places(corpus)[:2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    selection.override(by)
    with Called() as called:
        for step in range(3):
            torch.manual_seed(step)  # of the hard negatives that are drawn
            found = passed(setting, batch, by) if setting else learnt(model, batch, weights)[1]
            optimizer.step()
            losses.append(sum(float(found[key].detach()) for key in weights))
    return losses, called.names


def check_curve(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        corpus = written(Path(folder))
        plain, _ = curve(corpus, name, dict.fromkeys(USED[name], "plain"))
        fused, called = curve(corpus, name, dict.fromkeys(USED[name], "triton"))
    for operation in USED[name]:
        assert {CALLED[operation], f"{CALLED[operation]}_backward"} <= called, operation
    assert plain[-1] < plain[0]
    assert fused == pytest.approx(plain, abs=1e-4)


@needs_triton
@pytest.mark.slow
def test_with_kernels_a_family_learns_the_same() -> None:
    interpreted(check_families, check_drawn_dropout_and_whole_features)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", USED)
def test_training_curves_are_the_same_with_all_kernels_that_a_family_uses(name: str) -> None:
    interpreted(check_curve, of=[name])
