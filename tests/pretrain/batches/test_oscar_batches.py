"""Batches over a real corpus on disk: layout, targets, and what a sample's chance depends on."""

from collections import Counter

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.order import SampleOrder
from pretrain.batches.oscar import OscarBatches
from pretrain.batches.pairs import Place
from pretrain.batches.tags import tag_text
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.oscar import OscarForPreTraining
from pretrain.models.oscar_config import OscarConfig
from tests.pretrain import tiny_corpus

ALL = {"mlm": 1.0, "contrast": 1.0}
IGNORING_PLACE = [(0, number, 0, number) for number in range(16)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tiny_corpus.write(tmp_path_factory.mktemp("corpus"), "batches", 40))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    texts = [corpus[number].meta["captions"][0]["text"] for number in range(len(corpus))]
    return train_tokenizer(texts, 200)


def config(tokenizer: PreTrainedTokenizerBase, **changes: object) -> OscarConfig:
    settings = {
        "vocab_size": len(tokenizer),
        "img_feature_dim": tiny_corpus.FEATURES + 6,
        "max_seq_length": 24,
        "max_regions": 4,
        "texta_false_prob": 0.25,
        **changes,
    }
    return OscarConfig.of_size("tiny", **settings)


def maker(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    objectives: dict[str, float] | None = None,
    as_published: bool = False,
    **changes: object,
) -> OscarBatches:
    return OscarBatches(
        [corpus], tokenizer, config(tokenizer, **changes), objectives or ALL, 3, "one", as_published
    )


def test_the_published_layout_is_filled_to_its_full_size(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, {"contrast": 1.0}, as_published=True).make(IGNORING_PLACE)
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == {
        "input_ids": (16, 24),
        "token_type_ids": (16, 24),
        "attention_mask": (16, 28),
        "img_feats": (16, 4, 38),
        "masked_positions": (0,),
        "contrast_labels": (16,),
    }
    start, separator, pad = (
        tokenizer.convert_tokens_to_ids(t) for t in ("[CLS]", "[SEP]", "[PAD]")
    )
    for row in range(16):
        ids, segments = batch["input_ids"][row].tolist(), batch["token_type_ids"][row].tolist()
        length = int(batch["attention_mask"][row, :24].sum())
        assert ids[0] == start
        assert ids.count(separator) == 2
        assert ids[length - 1] == separator
        assert ids[length:] == [pad] * (24 - length)
        first = ids.index(separator)
        assert segments == [0] * (first + 1) + [1] * (length - first - 1) + [0] * (24 - length)
        seen = batch["attention_mask"][row].tolist()
        regions = len(corpus.regions(row))
        assert seen == [1] * length + [0] * (24 - length) + [1] * regions + [0] * (4 - regions)


def test_clean_samples_hold_their_own_caption_tags_and_regions(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, {"contrast": 1.0}, max_seq_length=64).make(IGNORING_PLACE)
    clean = (batch["contrast_labels"] == 0).nonzero().flatten().tolist()
    assert clean
    for row in clean:
        meta = corpus[row].meta
        length = int(batch["attention_mask"][row, : batch["input_ids"].shape[1]].sum())
        words = tokenizer.convert_ids_to_tokens(batch["input_ids"][row, :length].tolist())
        text = meta["captions"][0]["text"].split()
        assert words == ["[CLS]", *text, "[SEP]", *meta["tags"], "[SEP]"]
        regions = corpus[row].regions
        vectors = batch["img_feats"][row, : len(regions)].numpy()
        assert (vectors[:, :-6] == regions.float_features()).all()
        assert vectors[0, -6:-2].tolist() == pytest.approx((regions.boxes[0] / 300).tolist())


def test_polluted_samples_hold_what_their_label_says(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    places = [(0, number, epoch, 0) for epoch in range(20) for number in range(40)]
    batch = maker(corpus, tokenizer, {"contrast": 1.0}, max_seq_length=64).make(places)
    for (_, number, _, _), ids, label in zip(
        places, batch["input_ids"].tolist(), batch["contrast_labels"].tolist(), strict=True
    ):
        meta = corpus[number].meta
        words = tokenizer.convert_ids_to_tokens(ids)
        end = words.index("[SEP]")
        caption = words[1:end] == meta["captions"][0]["text"].split()
        tags = words[end + 1 : words.index("[SEP]", end + 1)] == meta["tags"]
        assert (caption, tags) == {0: (True, True), 1: (True, False), 2: (False, True)}[label]
    counts = Counter(batch["contrast_labels"].tolist())
    assert counts[0] / len(places) == pytest.approx(0.5, abs=0.06)
    assert counts[1] / len(places) == pytest.approx(0.25, abs=0.05)


def restored(batch: dict[str, torch.Tensor], row: int) -> dict[str, list]:
    """One sample of a batch without the padding that its batch gave it."""
    width = batch["input_ids"].shape[1]
    text, seen = batch["input_ids"][row], batch["attention_mask"][row]
    places = batch["masked_positions"]
    own = (places // width == row).nonzero().flatten()
    return {
        "ids": text[seen[:width].bool()].tolist(),
        "segments": batch["token_type_ids"][row][seen[:width].bool()].tolist(),
        "regions": batch["img_feats"][row][seen[width:].bool()].tolist(),
        "columns": (places[own] % width).tolist(),
        "labels": batch["masked_labels"][own].tolist(),
        "contrast": [int(batch["contrast_labels"][row])],
    }


def test_a_sample_is_the_same_in_every_batch(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    order = SampleOrder([len(corpus)], [1.0], 3, "one")
    places = order.indices(20, 32)
    whole = maker(corpus, tokenizer).make(places)
    published = maker(corpus, tokenizer, as_published=True).make(places)
    for row, place in enumerate(places):
        alone = restored(maker(corpus, tokenizer).make([place]), 0)
        assert restored(whole, row) == alone
        assert restored(published, row) == alone


def test_epochs_seeds_and_stages_draw_anew(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    def ids(place: Place, seed: int = 3, stage: str = "one") -> list[int]:
        made = OscarBatches([corpus], tokenizer, config(tokenizer), ALL, seed, stage)
        numbers = [(0, number, place[2], 0) for number in range(16)]
        return made.make(numbers)["input_ids"].flatten().tolist()

    first = ids((0, 0, 0, 0))
    assert first == ids((0, 0, 0, 999))  # the position changes nothing
    assert first != ids((0, 0, 1, 0))
    assert first != ids((0, 0, 0, 0), seed=4)
    assert first != ids((0, 0, 0, 0), stage="two")


def test_masked_places_are_words_and_their_labels_what_stood_there(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    objectives = {"mlm": 1.0}
    masked = maker(corpus, tokenizer, objectives).make(IGNORING_PLACE)
    plain = maker(corpus, tokenizer, objectives, mask_probability=0.0).make(IGNORING_PLACE)
    places = masked["masked_positions"]
    assert len(places) > 10
    assert places.tolist() == sorted(places.tolist())
    assert torch.equal(plain["input_ids"].flatten()[places], masked["masked_labels"])
    assert not set(masked["masked_labels"].tolist()) & set(range(5))
    untouched = torch.ones(plain["input_ids"].numel(), dtype=torch.bool)
    untouched[places] = False
    same = masked["input_ids"].flatten() == plain["input_ids"].flatten()
    assert bool(same[untouched].all())
    assert "contrast_labels" not in masked


def test_the_loss_on_foreign_tags_may_be_dropped(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = {"texta_false_prob": 0.25, "mask_probability": 0.5, "max_seq_length": 64}
    kept = maker(corpus, tokenizer, **settings).make(IGNORING_PLACE)
    settings["mask_loss_for_unmatched"] = False
    published = maker(corpus, tokenizer, **settings).make(IGNORING_PLACE)
    sound = maker(corpus, tokenizer, unmatched_masking="sound", **settings).make(IGNORING_PLACE)
    bare = maker(corpus, tokenizer, **{**settings, "mask_probability": 0.0}).make(IGNORING_PLACE)
    width = kept["input_ids"].shape[1]
    in_tags = kept["token_type_ids"].flatten()
    label = kept["contrast_labels"].repeat_interleave(width)
    for place in kept["masked_positions"].tolist():
        wrong_tag = int(label[place]) == 1 and bool(in_tags[place])
        wrong_caption = int(label[place]) == 2 and not in_tags[place]
        assert (place in published["masked_positions"].tolist()) is not wrong_tag
        assert (place in sound["masked_positions"].tolist()) is not (wrong_tag or wrong_caption)
    assert torch.equal(sound["input_ids"], kept["input_ids"])
    wrong_tags = ((label == 1) & (in_tags == 1)).view_as(kept["input_ids"])
    assert torch.equal(published["input_ids"][wrong_tags], bare["input_ids"][wrong_tags])
    assert torch.equal(published["input_ids"][~wrong_tags], kept["input_ids"][~wrong_tags])
    for batch in (kept, published, sound):
        found = bare["input_ids"].flatten()[batch["masked_positions"]]
        assert torch.equal(found, batch["masked_labels"])


def test_matching_alone_exchanges_half_of_the_captions(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    made = maker(corpus, tokenizer, {"itm": 1.0}, match_head=True, max_seq_length=64)
    batch = made.make([(0, number, epoch, 0) for epoch in range(20) for number in range(40)])
    assert batch["match_labels"].float().mean() == pytest.approx(0.5, abs=0.06)
    assert "contrast_labels" not in batch


def test_trimmed_and_published_batches_give_the_same_outputs(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(0)
    model = OscarForPreTraining(config(tokenizer)).eval()
    trimmed = maker(corpus, tokenizer).make(IGNORING_PLACE)
    published = maker(corpus, tokenizer, as_published=True, max_regions=20).make(IGNORING_PLACE)
    with torch.no_grad():
        one, other = model(**trimmed), model(**published)
    for name in ("prediction_logits", "seq_relationship_logits"):
        assert (one[name] - other[name]).abs().max() <= 1e-5


def test_attributes_may_stand_before_the_tags(corpus: Corpus) -> None:
    detector = corpus.manifest.detector
    sample = corpus[0]
    words = tag_text(sample, detector, 0.2, attributes=True).split()
    names = [detector.objects[number] for number in sample.regions.object_ids]
    colours = [detector.attributes[number] for number in sample.regions.attribute_ids]
    expected = list(dict.fromkeys(zip(colours, names, strict=True)))
    assert set(zip(words[::2], words[1::2], strict=True)) == set(expected)


def test_tags_of_unsure_regions_are_left_out(corpus: Corpus) -> None:
    sample = corpus[0]
    sample.meta["tags"].append("unseen")
    assert tag_text(sample, corpus.manifest.detector, 1.0).split() == sample.meta["tags"]
    assert tag_text(sample, corpus.manifest.detector, 1.1) == "unseen"
