"""The closed form of the arithmetic, against torch's count of what a real batch costs."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from data_pipeline.corpus.reader import Corpus
from pretrain import devices, flops, memory, objectives
from pretrain.batches.stored import assembled
from pretrain.batches.tokenise import train_tokenizer
from pretrain.feeding import Batch
from pretrain.measured import COUNTS, Measured
from pretrain.models.families import family
from tests.pretrain import tiny_corpus

SAMPLES = 6
KINDS = len(tiny_corpus.KINDS)
SETTINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "oscar": ({"img_feature_dim": tiny_corpus.FEATURES + 6}, ["mlm", "contrast"]),
    "imagebert": (
        {"img_feature_dim": tiny_corpus.FEATURES, "object_classes": KINDS},
        ["mlm", "moc", "mrfr", "itm"],
    ),
    "vilbert": (
        {"v_feature_size": tiny_corpus.FEATURES, "v_target_size": KINDS},
        ["mlm", "moc-kl", "itm"],
    ),
    "lxmert": (
        {
            "visual_feat_dim": tiny_corpus.FEATURES,
            "num_object_labels": KINDS,
            "num_attr_labels": len(tiny_corpus.COLOURS),
            "answer_head": False,
            "questions": False,
            "region_count": "sound",
        },
        ["mlm", "itm", "mrfr-smooth-l1"],
    ),
    "xvlm": ({}, ["itc", "itm-hard", "mlm", "bbox"]),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("flops")
    extras = {"class_probs": KINDS, "regions_text": True, "images": True}
    return Corpus(tiny_corpus.write(folder / "c", "c", 32, **extras))


def _made(name: str, corpus: Corpus) -> tuple[PreTrainedModel, Batch]:
    settings, wanted = SETTINGS[name]
    captions = (c["text"] for number in range(32) for c in corpus[number].meta["captions"])
    tokenizer = train_tokenizer(captions, 128)
    kind = family(name)
    config = kind.configuration.of_size("tiny", vocab_size=len(tokenizer), **settings)
    maker = kind.batches([corpus], tokenizer, config, dict.fromkeys(wanted, 1.0), 0, "s")
    batch = maker.make([(0, number, 0, number) for number in range(SAMPLES)])
    return kind.pretraining(config), assembled(batch)


def _full(batch: Batch) -> tuple[Batch, dict[str, float]]:
    """Return the batch with all padding seen, as torch counts it, and its lengths."""
    full = {
        key: torch.ones_like(value) if key.endswith("_mask") else value
        for key, value in batch.items()
    }
    measured = Measured([])
    measured.count(full)
    return full, {key: measured.counts[key] / SAMPLES for key in COUNTS}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_closed_form_is_what_torch_counts(name: str, corpus: Corpus) -> None:
    model, batch = _made(name, corpus)
    full, lengths = _full(batch)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(**full)
    arithmetic = flops.arithmetic(model)
    assert arithmetic.forward(lengths) * SAMPLES == pytest.approx(
        forward.get_total_flops(), rel=0.01
    )
    weights = dict.fromkeys(SETTINGS[name][1], 1.0)
    with FlopCounterMode(display=False) as both:
        loss, _ = objectives.compute(model(**full), full, weights)
        loss.backward()
    # No gradient is computed of the inputs themselves, which the closed form counts.
    assert arithmetic.training(lengths) * SAMPLES == pytest.approx(both.get_total_flops(), rel=0.06)


def test_padding_is_no_arithmetic(corpus: Corpus) -> None:
    _, batch = _made("oscar", corpus)
    measured = Measured([])
    measured.count(batch)
    assert measured.tokens == int(batch["attention_mask"].sum()) < batch["attention_mask"].numel()
    assert measured.counts["masked"] == int((batch["masked_labels"] >= 0).sum()) > 0


def test_peaks_are_known_by_the_device_s_name() -> None:
    assert devices.peak_tflops("NVIDIA H100 80GB HBM3", "bf16") == 989.0
    assert devices.peak_tflops("NVIDIA H100 PCIe", "bf16") == 756.0
    assert devices.peak_tflops("NVIDIA A100-SXM4-80GB", "fp32") == 19.5
    assert devices.peak_tflops("cpu", "fp32") is None


@pytest.mark.parametrize("name", SETTINGS)
def test_the_closed_form_of_the_activations_is_what_torch_keeps(name: str, corpus: Corpus) -> None:
    model, batch = _made(name, corpus)
    full, lengths = _full(batch)
    # Of dropout a CPU keeps masks of four bytes a number, a GPU of one, and no attention weights.
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for rate in ("dropout", "dropout_prob"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)
    weights = dict.fromkeys(SETTINGS[name][1], 1.0)
    kept = memory.saved_bytes(lambda: objectives.compute(model(**full), full, weights), model)
    estimated = memory.activations(model, "fp32").bytes(lengths, recomputed=False) * SAMPLES
    assert estimated == pytest.approx(kept, rel=0.05)
