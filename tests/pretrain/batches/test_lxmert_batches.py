"""LXMERT's batches over a real corpus on disk: layout, masks, targets, and what chance does."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.lxmert import LxmertBatches
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.lxmert import LxmertForPreTraining
from pretrain.models.lxmert_config import LxmertConfig
from pretrain.objectives import compute
from tests.pretrain import tiny_corpus
from tests.pretrain.batches.lxmert_setting import (
    EPOCHS,
    PLACES,
    PUBLISHED,
    SAMPLES,
    config,
    learn_tokenizer,
    maker,
    write_corpus,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    return learn_tokenizer(corpus)


def words(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> list[str]:
    return [w for w in tokenizer.convert_ids_to_tokens(ids.tolist()) if w != "[PAD]"]


def test_the_published_form_is_full_and_has_no_visual_mask(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(
        corpus, tokenizer, as_published=True, region_count="as_published", max_regions=1
    ).make(PLACES)
    shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
    masked = shapes.pop("masked_positions")
    assert shapes.pop("masked_labels") == masked
    assert shapes == {
        "input_ids": (40, 48),
        "token_type_ids": (40, 48),
        "attention_mask": (40, 48),
        "visual_feats": (40, 1, 32),
        "visual_pos": (40, 1, 4),
        "predicted_regions": (40,),
        "object_labels": (40,),
        "object_weights": (40,),
        "attribute_labels": (40,),
        "attribute_weights": (40,),
        "feature_targets": (40, 32),
        "feature_weights": (40,),
        "region_normaliser": (),
        "match_labels": (40,),
        "answer_labels": (40,),
    }
    assert float(batch["region_normaliser"]) == pytest.approx(40 * 1 * 0.15)
    assert not batch["token_type_ids"].any()


def test_matching_pairs_hold_a_sentence_of_their_own_and_others_one_of_another(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, {"itm": 1.0, "qa": 1.0}, random_sentence="sound").make(EPOCHS)
    table = {"red": 0, "blue": 1, "green": 2}
    answered = 0
    for row, (_, number, _, _) in enumerate(EPOCHS):
        meta = corpus[number].meta
        asked = {each["question"]: table.get(each["answer"], -1) for each in meta["questions"]}
        several = [
            {table.get(each["answer"], -1) for each in meta["questions"] if each["question"] == q}
            for q in asked
        ]
        own = [meta["captions"][0]["text"], *asked]
        text = " ".join(words(tokenizer, batch["input_ids"][row])[1:-1])
        label = int(batch["answer_labels"][row])
        assert (text in own) is bool(batch["match_labels"][row] == LxmertConfig.match_class)
        if batch["match_labels"][row] == 0 or text not in asked:
            assert label == -1
        else:
            answered += 1
            choices = several[list(asked).index(text)]
            assert label in (choices - {-1} or {-1})
    assert answered > 100
    assert batch["match_labels"].float().mean() == pytest.approx(0.5, abs=0.05)


def test_regions_their_boxes_and_the_detectors_targets_stand_in_their_places(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer).make(PLACES)
    counts = [len(corpus[number].regions) for number in range(SAMPLES)]
    assert batch["visual_attention_mask"].sum(1).tolist() == counts
    flat = batch["predicted_regions"].tolist()
    assert flat == [row * 4 + column for row in range(SAMPLES) for column in range(counts[row])]
    assert float(batch["region_normaliser"]) == pytest.approx(sum(counts) * 0.15)
    start = 0
    for row, count in enumerate(counts):
        regions, part = corpus[row].regions, slice(start, start + count)
        start += count
        features = torch.from_numpy(regions.float_features())
        assert torch.equal(batch["feature_targets"][part], features)
        assert batch["object_labels"][part].tolist() == regions.object_ids.tolist()
        assert batch["attribute_labels"][part].tolist() == regions.attribute_ids.tolist()
        assert batch["object_weights"][part].tolist() == regions.object_conf.tolist()
        assert batch["attribute_weights"][part].tolist() == regions.attribute_conf.tolist()
        boxes = torch.from_numpy(regions.boxes / tiny_corpus.SIDE)
        assert torch.allclose(batch["visual_pos"][row, :count], boxes)
        same = (batch["visual_feats"][row, :count] == features).all(1)
        hidden = batch["feature_weights"][part].bool()
        assert bool(same[~hidden].all())
    assert float(batch["feature_weights"].mean()) == pytest.approx(0.15, abs=0.08)


def test_masked_regions_become_zero_or_another_of_the_corpus_or_stay(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    pool = {row.tobytes() for n in range(SAMPLES) for row in corpus[n].regions.float_features()}
    batch = maker(corpus, tokenizer, {"mrfr-smooth-l1": 1.0}, region_mask_probability=0.5).make(
        EPOCHS
    )
    seen = batch["visual_feats"].flatten(0, 1)[batch["predicted_regions"]]
    zero = (seen == 0).all(1)
    stays = (seen == batch["feature_targets"]).all(1)
    assert all(row.numpy().tobytes() in pool for row in seen[~zero])
    assert float(zero.float().mean()) == pytest.approx(0.8, abs=0.03)
    # A random region is the own one about once in a hundred.
    assert float(stays.float().mean()) == pytest.approx(0.1, abs=0.025)
    assert bool((batch["feature_weights"] == 1).all())


def test_masked_words_are_labelled_with_what_stood_there(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    masked = maker(corpus, tokenizer).make(PLACES)
    plain = maker(corpus, tokenizer, mask_probability=0.0).make(PLACES)
    places = masked["masked_positions"]
    assert len(places) > 20
    assert torch.equal(plain["input_ids"].flatten()[places], masked["masked_labels"])
    changed = masked["input_ids"].flatten() != plain["input_ids"].flatten()
    assert set(changed.nonzero().flatten().tolist()) <= set(places.tolist())
    assert not set(masked["masked_labels"].tolist()) & set(range(5))


def test_whole_words_may_be_masked_together(corpus: Corpus) -> None:
    # So few entries that most words are in pieces.
    texts = [corpus[number].meta["captions"][0]["text"] for number in range(SAMPLES)]
    short = train_tokenizer(texts, 40)
    settings = {"mask_probability": 0.5, "max_seq_length": 128, "questions": False}
    plain = maker(corpus, short, {}, **settings).make(PLACES)["input_ids"].flatten()
    pieces = short.convert_ids_to_tokens(plain.tolist())
    continued = [place for place, piece in enumerate(pieces) if piece.startswith("##")]
    assert len(continued) > 100
    apart = {}
    for unit in ("token", "whole-word"):
        batch = maker(corpus, short, {"mlm": 1.0}, mask_unit=unit, **settings).make(PLACES)
        chosen = set(batch["masked_positions"].tolist())
        apart[unit] = sum((place in chosen) != (place - 1 in chosen) for place in continued)
    assert apart["whole-word"] == 0
    assert apart["token"] > 0.3 * len(continued)


def test_a_batch_can_be_learned_by_heart(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(0)
    settings = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = LxmertForPreTraining(config(tokenizer, **settings)).train()
    batch = maker(corpus, tokenizer).make(PLACES[:16])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for _ in range(40):
        total, losses = compute(model(**batch), batch, PUBLISHED)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        found.append({name: float(value) for name, value in losses.items()})
    for name in PUBLISHED:
        assert found[-1][name] < 0.75 * found[0][name], name


def test_losses_of_mismatched_pairs_may_be_left_out(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = {"mask_probability": 0.5, "region_mask_probability": 0.5}
    kept = maker(corpus, tokenizer, **settings).make(PLACES)
    dropped = maker(corpus, tokenizer, mask_loss_for_unmatched=False, **settings).make(PLACES)
    assert torch.equal(kept["input_ids"], dropped["input_ids"])
    assert torch.equal(kept["visual_feats"], dropped["visual_feats"])
    match = kept["match_labels"]
    width = kept["input_ids"].shape[1]
    for name, length in (("masked_positions", width), ("predicted_regions", 4)):
        expected = [place for place in kept[name].tolist() if match[place // length] == 1]
        assert dropped[name].tolist() == expected
        assert len(expected) < len(kept[name])
    regions = kept["visual_attention_mask"].sum(1)
    assert float(dropped["region_normaliser"]) == pytest.approx(
        float(regions[match == 1].sum()) / 2
    )


def test_sound_region_losses_predict_masked_regions_alone(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    every = maker(corpus, tokenizer).make(PLACES)
    alone = maker(corpus, tokenizer, region_losses="sound").make(PLACES)
    hidden = every["feature_weights"].bool()
    assert torch.equal(every["visual_feats"], alone["visual_feats"])
    for name in ("predicted_regions", "object_labels", "attribute_weights", "feature_targets"):
        assert torch.equal(every[name][hidden], alone[name])
    assert bool((alone["feature_weights"] == 1).all())


def test_other_families_objectives_find_their_targets(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    wanted = dict.fromkeys(("mlm", "moc", "moc-kl", "mrfr", "itm", "contrast"), 1.0)
    batches = maker(corpus, tokenizer, wanted, tags=True, contrast_head=True)
    batch = batches.make(PLACES)
    torch.manual_seed(0)
    model = LxmertForPreTraining(config(tokenizer, tags=True, contrast_head=True))
    total, losses = compute(model(**batch), batch, wanted)
    total.backward()
    assert set(losses) == set(wanted)
    assert all(float(value) > 0 for value in losses.values())
    assert batch["object_probabilities"].shape == (len(batch["predicted_regions"]), 8)


def test_tags_stand_behind_the_sentence_and_may_be_polluted(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = {"tags": True, "contrast_head": True, "random_sentence": "sound"}
    batches = maker(corpus, tokenizer, {"contrast": 1.0, "itm": 1.0}, **settings)
    batch = batches.make(EPOCHS)
    for row, (_, number, _, _) in enumerate(EPOCHS):
        sample = corpus[number]
        sure = sample.regions.object_conf >= 0.2
        names = [tiny_corpus.KINDS[n] for n in sample.regions.object_ids]
        tags = {name for name, is_sure in zip(names, sure, strict=True) if is_sure}
        text = words(tokenizer, batch["input_ids"][row])
        end = text.index("[SEP]")
        label = int(batch["contrast_labels"][row])
        own = {sample.meta["captions"][0]["text"]} | {
            each["question"] for each in sample.meta["questions"]
        }
        assert (" ".join(text[1:end]) in own) is (label != 2)
        assert (set(text[end + 1 : -1]) == tags) is (label != 1)
        assert int(batch["match_labels"][row]) == (label != 2)
        assert batch["token_type_ids"][row, : end + 1].sum() == 0
        if tags:
            assert bool((batch["token_type_ids"][row, end + 1 : len(text)] == 1).all())
    share = (batch["contrast_labels"] == 0).float().mean()
    assert share == pytest.approx(0.5, abs=0.05)


def restored(batch: dict[str, torch.Tensor], row: int) -> dict[str, list]:
    """One sample of a batch without the padding that its batch gave it."""
    text, seen = batch["attention_mask"][row].bool(), batch["visual_attention_mask"][row].bool()
    width, regions = len(text), len(seen)
    found: dict[str, list] = {
        "ids": batch["input_ids"][row][text].tolist(),
        "features": batch["visual_feats"][row][seen].tolist(),
        "boxes": batch["visual_pos"][row][seen].tolist(),
        "labels": [int(batch["match_labels"][row]), int(batch["answer_labels"][row])],
    }
    own = batch["masked_positions"] // width == row
    found["columns"] = (batch["masked_positions"][own] % width).tolist()
    found["words"] = batch["masked_labels"][own].tolist()
    own = batch["predicted_regions"] // regions == row
    found["regions"] = (batch["predicted_regions"][own] % regions).tolist()
    for name in ("object_labels", "object_weights", "feature_targets", "feature_weights"):
        found[name] = batch[name][own].tolist()
    return found


def test_a_sample_is_the_same_in_every_batch(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    places = EPOCHS[17:41]
    whole = maker(corpus, tokenizer).make(places)
    published = maker(corpus, tokenizer, as_published=True).make(places)
    for row, (number, sample, epoch, _) in enumerate(places):
        alone = restored(maker(corpus, tokenizer).make([(number, sample, epoch, 999)]), 0)
        assert restored(whole, row) == alone
        assert restored(published, row) == alone


def test_epochs_seeds_and_stages_draw_anew(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    def made(epoch: int = 0, seed: int = 3, stage: str = "one") -> list[float]:
        batches = LxmertBatches([corpus], tokenizer, config(tokenizer), PUBLISHED, seed, stage)
        batch = batches.make([(0, number, epoch, 0) for number in range(16)])
        return batch["input_ids"].flatten().tolist() + batch["feature_weights"].tolist()

    first = made()
    assert first == made()
    assert first not in (made(epoch=1), made(seed=4), made(stage="two"))


def test_trimmed_and_full_batches_give_the_same_losses(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(0)
    model = LxmertForPreTraining(config(tokenizer, max_regions=6)).eval()
    found = []
    for full in (False, True):
        batch = maker(corpus, tokenizer, as_published=full, max_regions=6).make(PLACES)
        with torch.no_grad():
            found.append(compute(model(**batch), batch, PUBLISHED)[1])
    for name in PUBLISHED:
        assert float(found[0][name]) == pytest.approx(float(found[1][name]), rel=1e-5)


def test_pairs_hold_the_image_and_the_text_as_they_are(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batches = maker(corpus, tokenizer, {}, tags=True, tag_confidence=0.0)
    batch = batches.pairs(corpus, [3, 3, 5], ["a red kite", "a dog", "a dog"])
    assert words(tokenizer, batch["input_ids"][0])[:5] == ["[CLS]", "a", "red", "kite", "[SEP]"]
    for row, number in enumerate((3, 3, 5)):
        sample = corpus[number]
        seen = batch["visual_attention_mask"][row].bool()
        features = torch.from_numpy(sample.regions.float_features())
        assert torch.equal(batch["visual_feats"][row][seen], features)
        text = words(tokenizer, batch["input_ids"][row])
        assert text[text.index("[SEP]") + 1 : -1] == sample.meta["tags"]
    model = LxmertForPreTraining(config(tokenizer)).eval()
    with torch.no_grad():
        together = model.score(**batch)
        alone = model.score(**batches.pairs(corpus, [5], ["a dog"]))
    assert together.shape == (3,)
    assert float(together[2]) == pytest.approx(float(alone[0]), abs=1e-5)


def test_long_sentences_are_cut_to_the_published_length(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, {}, max_seq_length=20).pairs(corpus, [0], ["red " * 50])
    assert words(tokenizer, batch["input_ids"][0]) == ["[CLS]", *["red"] * 18, "[SEP]"]


def test_captions_of_one_corpus_and_questions_of_another_make_a_mixture(
    tmp_path: Path, corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    captions = Corpus(tiny_corpus.write(tmp_path, "captions", 8))
    settings = config(tokenizer)
    batches = LxmertBatches([captions, corpus], tokenizer, settings, {"qa": 1.0}, 3, "one")
    labels = batches.make([(0, number, 0, 0) for number in range(8)])["answer_labels"]
    assert labels.tolist() == [-1] * 8
