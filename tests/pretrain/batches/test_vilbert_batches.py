"""ViLBERT's batches: layout, masks, the whole image, mismatched captions, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.mask_regions import mask_regions
from pretrain.batches.mask_tokens import mask_tokens
from pretrain.batches.pairs import PairSource, Place
from pretrain.batches.pollute import CLEAN_ABOVE, change_for
from pretrain.batches.tokenise import train_tokenizer
from pretrain.batches.vilbert import ZERO_SHARE, ViLBertBatches
from pretrain.batches.whole_image import whole_image
from pretrain.models.vilbert import ViLBertForPreTraining
from pretrain.models.vilbert_config import ViLBertConfig
from pretrain.objectives import compute
from tests.pretrain import tiny_corpus
from tests.pretrain.batches.vilbert_setup import (
    PUBLISHED,
    SAMPLES,
    batches,
    caption_of,
    config,
    full_corpus,
    own_captions,
    tokenizer_of,
)
from trawl.chance import generator

PLACES: list[Place] = [(0, number, 0, number) for number in range(16)]
EPOCHS: list[Place] = [(0, number, epoch, 0) for epoch in range(25) for number in range(SAMPLES)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return full_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    return tokenizer_of(corpus)


def test_the_published_layout_is_filled_to_its_full_size(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = batches(corpus, tokenizer, {"itm": 1.0}, as_published=True).make(PLACES)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_ids": (16, 32),
        "token_type_ids": (16, 32),
        "attention_mask": (16, 32),
        "features": (16, 5, tiny_corpus.FEATURES),
        "locations": (16, 5, 5),
        "region_mask": (16, 5),
        "masked_positions": (0,),
        "predicted_regions": (0,),
        "match_labels": (16,),
    }
    start, separator, pad = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]", "[PAD]"])
    for row in range(16):
        ids = batch["input_ids"][row].tolist()
        length = int(batch["attention_mask"][row].sum())
        assert (ids[0], ids[length - 1], ids.count(separator)) == (start, separator, 1)
        assert ids[length:] == [pad] * (32 - length)
        regions = corpus[row].regions
        count = len(regions)
        assert batch["region_mask"][row].tolist() == [1] * (count + 1) + [0] * (4 - count)
        assert batch["locations"][row, 0].tolist() == [0, 0, 1, 1, 1]
        x1, y1, x2, y2 = (regions.boxes[0] / tiny_corpus.SIDE).tolist()
        area = (x2 - x1) * (y2 - y1)
        expected = pytest.approx([x1, y1, x2, y2, area], rel=1e-4)
        assert batch["locations"][row, 1].tolist() == expected
        assert not batch["locations"][row, count + 1 :].any()
        features = batch["features"][row]
        assert features[1 : count + 1].numpy() == pytest.approx(regions.float_features())
        assert (features[0] - features[1 : count + 1].mean(0)).abs().max() <= 1e-6
    assert not batch["token_type_ids"].any()


def test_long_captions_lose_their_end(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    whole = batches(corpus, tokenizer, {}).make(PLACES)["input_ids"]
    short = batches(corpus, tokenizer, {}, max_seq_length=6).make(PLACES)["input_ids"]
    for long_row, row in zip(whole.tolist(), short.tolist(), strict=True):
        kept = row[: row.index(tokenizer.convert_tokens_to_ids("[SEP]"))]
        assert kept == long_row[: len(kept)]
        assert len(row) <= 6


def test_aligned_pairs_are_class_0_and_hold_their_own_caption(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    made = batches(corpus, tokenizer, {"itm": 1.0}, random_caption="sound").make(EPOCHS)
    assert ViLBertConfig.match_class == 0
    captions = [caption_of(tokenizer, ids) for ids in made["input_ids"]]
    for caption, own, label in zip(
        captions, own_captions(corpus, EPOCHS), made["match_labels"].tolist(), strict=True
    ):
        assert (caption == own) is (label == 0)
    assert made["match_labels"].float().mean() == pytest.approx(0.5, abs=0.07)


def test_a_published_random_caption_may_be_the_own_one(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    places = EPOCHS * 1 + [(0, n, e, 0) for e in range(25, 100) for n in range(SAMPLES)]
    made = batches(corpus, tokenizer, {"itm": 1.0}).make(places)
    wrong = made["match_labels"].bool().tolist()
    captions = [caption_of(tokenizer, ids) for ids in made["input_ids"]]
    pairs = zip(captions, own_captions(corpus, places), wrong, strict=True)
    coincidences = [caption == own for caption, own, mismatched in pairs if mismatched]
    # One of the 40 samples is the own one: 2.5% of some 2,000, give or take four deviations.
    assert np.mean(coincidences) == pytest.approx(1 / SAMPLES, abs=0.014)


def test_half_of_the_pairs_are_aligned(corpus: Corpus) -> None:
    source = PairSource([corpus], 3, "one")
    draws = [source.chance((0, number, 0, 0), "pollution").random() for number in range(100_000)]
    changes = [change_for(draw, CLEAN_ABOVE, has_tags=True) for draw in draws]
    assert set(changes) == {"nothing", "caption"}
    assert changes.count("nothing") / len(changes) == pytest.approx(0.5, abs=0.0064)


def test_tokens_and_regions_are_masked_at_the_published_rates(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    settings, count = config(tokenizer), 400_000
    features = np.ones((count, 1), dtype=np.float32)
    corrupted, places = mask_regions(
        features, generator("regions"), settings.region_mask_probability, ZERO_SHARE
    )
    assert len(places) / count == pytest.approx(0.15, abs=0.0023)
    assert (corrupted[places] == 0).mean() == pytest.approx(0.9, abs=0.005)
    assert set(corrupted[places].ravel()) == {0.0, 1.0}
    words = np.full(count, 7, dtype=np.int64)
    changed, chosen = mask_tokens(
        words, generator("words"), settings.mask_probability, 4, settings.vocab_size
    )
    assert len(chosen) / count == pytest.approx(0.15, abs=0.0023)
    masks = (changed[chosen] == 4).mean()
    # A random word is [MASK] or the same word once in `vocab_size`.
    assert masks == pytest.approx(0.8, abs=0.008)
    assert (changed[chosen] == 7).mean() == pytest.approx(0.1, abs=0.006)


def test_masked_regions_become_zero_or_stay_and_keep_their_box(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    objectives = {"moc-kl": 1.0, "moc": 1.0, "moc-confidence": 1.0, "mrfr": 1.0}
    made = batches(
        corpus, tokenizer, objectives, region_mask_probability=0.5, feature_head=True
    ).make(EPOCHS[:200])
    width = made["features"].shape[1] - 1
    seen = set()
    for index, place in enumerate(made["predicted_regions"].tolist()):
        row, column = divmod(place, width)
        regions = corpus[EPOCHS[row][1]].regions
        feature = made["features"][row, 1 + column]
        original = torch.from_numpy(regions.float_features()[column])
        assert not feature.any() or torch.equal(feature, original)
        seen.add(bool(feature.any()))
        assert made["locations"][row, 1 + column, 0] == pytest.approx(
            float(regions.boxes[column, 0]) / tiny_corpus.SIDE
        )
        assert torch.equal(made["feature_targets"][index], original)
        assert int(made["object_labels"][index]) == regions.object_ids[column] + 1
        assert float(made["object_weights"][index]) == regions.object_conf[column]
        assert made["object_probabilities"][index].tolist() == regions.class_probs[column].tolist()
    assert seen == {False, True}
    assert float(made["region_normaliser"]) == 200 * 4 * 0.5
    rows = made["features"][:, 1:].flatten(0, 1)
    untouched = torch.ones(len(rows), dtype=torch.bool)
    untouched[made["predicted_regions"]] = False
    plain = batches(corpus, tokenizer, {}).make(EPOCHS[:200])["features"][:, 1:].flatten(0, 1)
    assert torch.equal(rows[untouched], plain[untouched])


def test_masked_places_are_words_and_their_labels_what_stood_there(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    masked = batches(corpus, tokenizer, {"mlm": 1.0}).make(PLACES)
    plain = batches(corpus, tokenizer, {}).make(PLACES)["input_ids"].flatten()
    places = masked["masked_positions"]
    assert len(places) > 10
    assert torch.equal(plain[places], masked["masked_labels"])
    assert not set(masked["masked_labels"].tolist()) & set(range(5))
    untouched = torch.ones(len(plain), dtype=torch.bool)
    untouched[places] = False
    assert torch.equal(masked["input_ids"].flatten()[untouched], plain[untouched])


@pytest.mark.parametrize("form", ["as_published", "multi_task", "sound"])
def test_the_whole_image_stands_first(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, form: str
) -> None:
    made = batches(corpus, tokenizer, region_mask_probability=0.5, global_feature=form)
    batch = made.make(PLACES)
    width = batch["features"].shape[1] - 1
    for row in range(len(PLACES)):
        regions = corpus[row].regions
        places = batch["predicted_regions"]
        own = (places[places // width == row] % width).numpy()
        kept = batch["features"][row, 1 : 1 + len(regions)].numpy()
        expected = whole_image(kept, regions.boxes, own, form)  # type: ignore[arg-type]
        assert batch["features"][row, 0].numpy() == pytest.approx(expected)


def test_whole_words_may_be_masked_together(corpus: Corpus) -> None:
    pieces = train_tokenizer(own_captions(corpus, PLACES), 45)
    settings = {"mask_unit": "whole-word", "mask_probability": 0.5, "max_seq_length": 120}
    masked = batches(corpus, pieces, {"mlm": 1.0}, **settings).make(PLACES)
    plain = batches(corpus, pieces, {}, **settings).make(PLACES)["input_ids"]
    chosen = torch.zeros(plain.numel(), dtype=torch.bool)
    chosen[masked["masked_positions"]] = True
    continued = [
        token.startswith("##") for token in pieces.convert_ids_to_tokens(plain.flatten().tolist())
    ]
    places = [place for place, inside in enumerate(continued) if inside]
    assert len(places) > 50
    assert chosen.any()
    assert all(chosen[place] == chosen[place - 1] for place in places)


def test_the_first_multi_task_objective_drops_targets_of_mismatched_pairs(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    beta = batches(corpus, tokenizer).make(EPOCHS[:80])
    later = batches(corpus, tokenizer, mask_loss_for_unmatched=False).make(EPOCHS[:80])
    for name in ("input_ids", "features", "match_labels"):
        assert torch.equal(beta[name], later[name])
    wrong = beta["match_labels"].bool()
    assert wrong.any()
    for places, targets, width in (
        ("masked_positions", "masked_labels", beta["input_ids"].shape[1]),
        ("predicted_regions", "object_probabilities", beta["features"].shape[1] - 1),
    ):
        aligned = ~wrong[beta[places] // width]
        assert 0 < int(aligned.sum()) < len(aligned)
        assert torch.equal(later[places], beta[places][aligned])
        assert torch.equal(later[targets], beta[targets][aligned])


def test_without_matching_every_caption_is_the_own_one(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    made = batches(corpus, tokenizer, {"moc": 1.0}).make(EPOCHS[:80])
    captions = [caption_of(tokenizer, ids) for ids in made["input_ids"]]
    assert captions == own_captions(corpus, EPOCHS[:80])
    assert "match_labels" not in made


def test_tags_may_be_read_and_polluted(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    settings = {"tags": True, "contrast_head": True, "texta_false_prob": 0.25, "tag_confidence": 0}
    wanted = {"contrast": 1.0, "itm": 1.0}
    options = {**settings, "max_seq_length": 64, "random_caption": "sound"}
    made = batches(corpus, tokenizer, wanted, **options).make(EPOCHS)
    for (_, number, _, _), ids, segments, label, match in zip(
        EPOCHS,
        made["input_ids"].tolist(),
        made["token_type_ids"].tolist(),
        made["contrast_labels"].tolist(),
        made["match_labels"].tolist(),
        strict=True,
    ):
        meta = corpus[number].meta
        words = tokenizer.convert_ids_to_tokens(ids)
        end = words.index("[SEP]")
        last = words.index("[SEP]", end + 1)
        caption = words[1:end] == meta["captions"][0]["text"].split()
        tags = words[end + 1 : last] == meta["tags"]
        assert (caption, tags) == {0: (True, True), 1: (True, False), 2: (False, True)}[label]
        assert match == int(label == 2)
        assert segments[: last + 1] == [0] * (end + 1) + [1] * (last - end)
    shares = torch.bincount(made["contrast_labels"]) / len(EPOCHS)
    assert shares.tolist() == pytest.approx([0.5, 0.25, 0.25], abs=0.06)


def restored(batch: dict[str, Tensor], row: int) -> dict[str, list]:
    """One sample of a batch without the padding that its batch gave it."""
    seen, there = batch["attention_mask"][row].bool(), batch["region_mask"][row].bool()
    width, regions = batch["input_ids"].shape[1], batch["features"].shape[1] - 1
    words = (batch["masked_positions"] // width == row).nonzero().flatten()
    places = (batch["predicted_regions"] // regions == row).nonzero().flatten()
    return {
        "ids": batch["input_ids"][row][seen].tolist(),
        "features": batch["features"][row][there].tolist(),
        "locations": batch["locations"][row][there].tolist(),
        "columns": (batch["masked_positions"][words] % width).tolist(),
        "labels": batch["masked_labels"][words].tolist(),
        "regions": (batch["predicted_regions"][places] % regions).tolist(),
        "probabilities": batch["object_probabilities"][places].tolist(),
        "match": [int(batch["match_labels"][row])],
    }


def test_a_sample_is_the_same_in_every_batch(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    whole = batches(corpus, tokenizer).make(PLACES)
    published = batches(corpus, tokenizer, as_published=True).make(PLACES)
    for row, place in enumerate(PLACES):
        alone = restored(batches(corpus, tokenizer).make([(*place[:3], 999)]), 0)
        assert restored(whole, row) == alone
        assert restored(published, row) == alone


def test_epochs_seeds_and_stages_draw_anew(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    def drawn(epoch: int, seed: int = 3, stage: str = "one") -> list[list[int]]:
        made = ViLBertBatches([corpus], tokenizer, config(tokenizer), PUBLISHED, seed, stage)
        batch = made.make([(0, number, epoch, 0) for number in range(16)])
        names = ("masked_positions", "predicted_regions", "match_labels")
        return [batch[name].tolist() for name in names]

    first = drawn(0)
    assert first == drawn(0)
    for other in (drawn(1), drawn(0, seed=4), drawn(0, stage="two")):
        assert all(one != two for one, two in zip(first, other, strict=True))


def test_trimmed_and_published_batches_give_the_same_losses(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    everything = dict.fromkeys(config(tokenizer).objectives(), 1.0)
    settings = {"feature_head": True, "contrast_head": True, "tags": True, "tag_confidence": 0}
    torch.manual_seed(0)
    model = ViLBertForPreTraining(config(tokenizer, **settings)).eval()
    losses = []
    for as_published in (False, True):
        more = {**settings, "max_regions": 9 if as_published else 4}
        made = batches(corpus, tokenizer, everything, as_published, **more)
        batch = made.make(PLACES)
        if as_published:  # the one target that follows from the configuration
            batch["region_normaliser"] *= 4 / 9
        with torch.no_grad():
            losses.append(compute(model(**batch), batch, everything)[1])
    assert set(losses[0]) == set(everything)
    for name, value in losses[0].items():
        assert float(value) > 0
        assert float(losses[1][name]) == pytest.approx(float(value), rel=1e-4), name


def test_pairs_are_as_they_are(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    made = batches(corpus, tokenizer, task_specific_tokens=True, task=8)
    batch = made.pairs(corpus, [5, 2, 5], ["a red kite", "a dog", "a lamp and a boat"])
    assert set(batch) == {
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "features",
        "locations",
        "region_mask",
        "task_ids",
    }
    captions = [caption_of(tokenizer, ids) for ids in batch["input_ids"]]
    assert captions == ["a red kite", "a dog", "a lamp and a boat"]
    assert torch.equal(batch["features"][0], batch["features"][2])
    features = corpus[2].regions.float_features()
    assert batch["features"][1, 0].numpy() == pytest.approx(features.mean(0), rel=1e-5)
    assert batch["features"][1, 1 : 1 + len(features)].numpy() == pytest.approx(features)
    assert batch["task_ids"].tolist() == [[8]] * 3
    model = ViLBertForPreTraining(config(tokenizer, task_specific_tokens=True)).eval()
    assert model.score(**batch).shape == (3,)


def test_hard_classes_need_no_distribution(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    plain = Corpus(tiny_corpus.write(tmp_path, "plain", 8))
    made = batches(plain, tokenizer, {"moc": 1.0}, region_mask_probability=1.0)
    labels = made.make([(0, number, 0, 0) for number in range(8)])["object_labels"]
    expected = [plain[number].regions.object_ids + 1 for number in range(8)]
    assert labels.tolist() == np.concatenate(expected).tolist()
