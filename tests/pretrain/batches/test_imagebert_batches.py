"""ImageBERT's batches: layout, negatives, conditional masks, and what a sample depends on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.regions import Regions
from pretrain.batches.geometry import locations
from pretrain.batches.imagebert import ImageBertBatches, surest
from pretrain.batches.pairs import Place
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.imagebert import ImageBertForPreTraining
from pretrain.models.imagebert_config import ImageBertConfig
from pretrain.objectives import compute
from tests.pretrain import tiny_corpus
from trawl.errors import RequestError

ALL = {"mlm": 1.0, "moc": 1.0, "mrfr": 1.0, "itm": 1.0}
PLACES: list[Place] = [(0, number, epoch, 0) for epoch in range(20) for number in range(40)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    return Corpus(tiny_corpus.write(folder, "imagebert", 40, class_probs=9, unsure=True))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    texts = [corpus[number].meta["captions"][0]["text"] for number in range(len(corpus))]
    return train_tokenizer(texts, 200)


def maker(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    objectives: dict[str, float],
    as_published: bool = False,
    **changes: object,
) -> ImageBertBatches:
    settings = {
        "vocab_size": len(tokenizer),
        "img_feature_dim": tiny_corpus.FEATURES,
        "object_classes": 9,
        "max_seq_length": 24,
        "max_regions": 4,
        **changes,
    }
    config = ImageBertConfig.of_size("tiny", **settings)
    return ImageBertBatches([corpus], tokenizer, config, objectives, 3, "one", as_published)


def test_the_published_layout_is_filled_to_its_full_size(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, ALL, as_published=True).make(PLACES[:16])
    predicted, masked = len(batch["predicted_regions"]), len(batch["masked_positions"])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_ids": (16, 24),
        "attention_mask": (16, 28),
        "img_feats": (16, 4, 32),
        "img_locations": (16, 4, 5),
        "masked_positions": (masked,),
        "masked_labels": (masked,),
        "predicted_regions": (predicted,),
        "object_labels": (predicted,),
        "feature_targets": (predicted, 32),
        "match_labels": (16,),
    }
    counts = batch["attention_mask"][:, 24:].sum(1).tolist()
    assert sorted(counts) != [4] * 16
    for row, count in enumerate(counts):
        assert not batch["img_feats"][row, count:].any()
        assert batch["input_ids"][row, int(batch["attention_mask"][row, :24].sum()) - 1] == 3


def captions_by_regions(corpus: Corpus) -> dict[bytes, str]:
    """The caption of each image, found by where its regions lie."""
    samples = [corpus[number] for number in range(len(corpus))]
    return {
        locations(sample.regions.boxes, 300, 300, 5).tobytes(): sample.meta["captions"][0]["text"]
        for sample in samples
    }


def test_half_of_the_pairs_have_another_image_or_another_text(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, {"itm": 1.0}, max_seq_length=64).make(PLACES)
    captions, width = captions_by_regions(corpus), batch["input_ids"].shape[1]
    kinds: Counter[str] = Counter()
    for row, (_, number, _, _) in enumerate(PLACES):
        own = corpus[number].meta["captions"][0]["text"]
        text_mask, region_mask = batch["attention_mask"][row].split([width, 4])
        length, count = int(text_mask.sum()), int(region_mask.sum())
        text = tokenizer.decode(batch["input_ids"][row, 1 : length - 1])
        image_text = captions[batch["img_locations"][row, :count].numpy().tobytes()]
        matches = bool(batch["match_labels"][row])
        assert matches is (text == image_text)
        kinds["match" if matches else "text" if image_text == own else "image"] += 1
    shares = {kind: count / len(PLACES) for kind, count in kinds.items()}
    assert shares == pytest.approx({"match": 0.5, "image": 0.25, "text": 0.25}, abs=0.06)


@pytest.mark.parametrize("conditional", [True, False])
def test_masks_stand_on_all_pairs_and_targets_on_right_ones(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, conditional: bool
) -> None:
    settings = {"conditional_masking": conditional, "mask_probability": 0.4}
    made = maker(corpus, tokenizer, ALL, region_mask_probability=0.4, **settings)
    batch = made.make(PLACES)
    text_rows = batch["masked_positions"] // batch["input_ids"].shape[1]
    region_rows = batch["predicted_regions"] // batch["img_feats"].shape[1]
    for rows in (text_rows, region_rows):
        assert bool((batch["match_labels"][rows] == 0).any()) is not conditional
    wrong = batch["match_labels"] == 0
    assert (batch["input_ids"][wrong] == 4).any()
    seen = batch["attention_mask"][:, batch["input_ids"].shape[1] :].bool()
    assert bool(((batch["img_feats"] == 0).all(-1) & seen)[wrong].any())


def test_targets_are_what_stood_in_the_masked_regions(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    names = ("moc", "mrfr", "moc-kl", "moc-confidence", "mrfr-smooth-l1")
    objectives = dict.fromkeys(names, 1.0)
    batch = maker(corpus, tokenizer, objectives).make(PLACES)
    places = batch["predicted_regions"].tolist()
    width = batch["img_feats"].shape[1]
    flat = batch["img_feats"].flatten(0, 1)
    zeroed = 0
    for index, place in enumerate(places):
        regions = corpus[PLACES[place // width][1]].regions
        column = place % width
        assert int(batch["object_labels"][index]) == regions.object_ids[column]
        assert float(batch["object_weights"][index]) == float(regions.object_conf[column])
        own = torch.from_numpy(regions.float_features()[column])
        assert torch.equal(batch["feature_targets"][index], own)
        probabilities = torch.from_numpy(regions.class_probs[column].astype(np.float32))
        assert torch.equal(batch["object_probabilities"][index], probabilities)
        assert not flat[place].any() or torch.equal(flat[place], own)
        zeroed += not flat[place].any()
    count = int(batch["attention_mask"][:, batch["input_ids"].shape[1] :].sum())
    assert len(places) / count == pytest.approx(0.15, abs=0.03)
    assert float(batch["region_normaliser"]) == pytest.approx(0.15 * count, rel=1e-6)
    assert batch["feature_weights"].tolist() == [1.0] * len(places)
    assert zeroed / len(places) == pytest.approx(0.9, abs=0.06)


def test_a_sample_is_the_same_in_every_batch_and_draws_anew_in_every_epoch(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    made = maker(corpus, tokenizer, ALL, as_published=True)
    whole = made.make(PLACES[:60])
    for row, place in enumerate(PLACES[:60]):
        alone = made.make([place])
        for name in ("input_ids", "img_feats", "img_locations", "attention_mask", "match_labels"):
            assert torch.equal(whole[name][row], alone[name][0])
        own = whole["masked_positions"] // 24 == row
        assert torch.equal(whole["masked_positions"][own] % 24, alone["masked_positions"])
        assert torch.equal(whole["masked_labels"][own], alone["masked_labels"])
    moved = [(0, number, epoch, 999) for _, number, epoch, _ in PLACES[:60]]
    assert torch.equal(made.make(moved)["input_ids"], whole["input_ids"])
    later = [(0, number, 7, 0) for _, number, _, _ in PLACES[:40]]
    assert not torch.equal(made.make(later)["input_ids"], whole["input_ids"][:40])


def test_pairs_are_laid_out_plainly(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    batch = maker(corpus, tokenizer, {}).pairs(corpus, [3, 5], ["a red dog", "a boat"])
    words = tokenizer.convert_ids_to_tokens(batch["input_ids"][1].tolist())
    assert words == ["[CLS]", "a", "boat", "[SEP]", "[PAD]"]
    regions = corpus[5].regions
    assert torch.equal(
        batch["img_feats"][1, : len(regions)], torch.from_numpy(regions.float_features())
    )
    assert set(batch) == {
        "input_ids", "attention_mask", "img_feats", "img_locations", "masked_positions",
        "predicted_regions",
    }  # fmt: skip


def test_every_objective_passes_through_the_model_and_teaches_it(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(0)
    weights = {**ALL, "moc-kl": 1.0, "moc-confidence": 1.0, "mrfr-smooth-l1": 1.0}
    made = maker(corpus, tokenizer, weights)
    model = ImageBertForPreTraining(made._config)
    batch = made.make(PLACES[:16])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    totals = []
    for _ in range(6):
        total, losses = compute(model(**batch), batch, weights)
        assert set(losses) == set(weights)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert totals[-1] < 0.8 * totals[0]


def test_the_surest_regions_are_kept_in_stored_order() -> None:
    confidence = np.array([0.2, 0.9, 0.5, 0.9, 0.1], dtype=np.float16)
    regions = Regions(
        boxes=np.zeros((5, 4), dtype=np.float32),
        features=np.arange(5, dtype=np.float32)[:, None],
        object_ids=np.arange(5),
        attribute_ids=np.arange(5),
        object_conf=confidence,
        attribute_conf=confidence,
    )
    assert surest(regions, 5) is regions
    assert surest(regions, 3).object_ids.tolist() == [1, 2, 3]
    assert surest(regions, 1).object_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("extras", "objectives", "changes", "message"),
    [
        ({"samples": 1}, {"itm": 1.0}, {}, "1 samples; itm takes"),
        ({"regions": False}, {"mrfr": 1.0}, {}, "no regions in the first"),
        ({}, {"moc-kl": 1.0}, {}, "no class_probs in the first"),
        ({}, {"moc": 1.0}, {"object_classes": 7}, "names 8 objects"),
        ({}, {"mlm": 1.0}, {"img_feature_dim": 2048}, "set model.config.img_feature_dim to 32"),
        ({}, {"contrast": 1.0}, {}, "knows no contrast"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerBase,
    extras: dict[str, object],
    objectives: dict[str, float],
    changes: dict[str, object],
    message: str,
) -> None:
    lacking = Corpus(tiny_corpus.write(tmp_path, "lacking", **{"samples": 4, **extras}))
    with pytest.raises(RequestError, match=message):
        maker(lacking, tokenizer, objectives, **changes)
