"""X-VLM's batches over corpora on disk: images, regions, masks, and what a draw depends on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.plain_words import plain_words
from pretrain.batches.region_concepts import (
    Phrase,
    ViewRule,
    box_in_view,
    box_target,
    mirrors,
    patch_mask,
    phrases_of,
    region_view,
)
from pretrain.batches.tokenise import train_tokenizer
from pretrain.batches.xvlm import XvlmBatches
from pretrain.models.xvlm import XvlmForPreTraining
from pretrain.models.xvlm_config import XvlmConfig
from pretrain.objectives import compute
from tests.pretrain import tiny_corpus
from trawl.chance import generator
from trawl.errors import RequestError, WorkError

ALL = {"itc": 1.0, "itm-hard": 1.0, "mlm": 1.0, "bbox": 1.0}
PLACES = [(0, number, 0, number) for number in range(8)]
RULE = ViewRule(side=224, most=5, least_area=0.5, careful=False)


def corpus_of(folder: Path, name: str, **extras: bool) -> Corpus:
    return Corpus(tiny_corpus.write(folder, name, 24, **extras))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("regions")
    return corpus_of(folder, "regions", images=True, regions_text=True)


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    texts = [corpus[number].meta["captions"][0]["text"] for number in range(len(corpus))]
    return train_tokenizer(texts, 60)


def config(tokenizer: PreTrainedTokenizerBase, **changes: object) -> XvlmConfig:
    small = {"image_size": 64, "vision_embed_dim": 8, "window_size": 2}
    return XvlmConfig.of_size("tiny", **{"vocab_size": len(tokenizer), **small, **changes})


def maker(
    corpora: Corpus | Sequence[Corpus],
    tokenizer: PreTrainedTokenizerBase,
    objectives: dict[str, float] | None = None,
    as_published: bool = False,
    **changes: object,
) -> XvlmBatches:
    chosen = [corpora] if isinstance(corpora, Corpus) else corpora
    made = config(tokenizer, **changes)
    wanted = ALL if objectives is None else objectives
    return XvlmBatches(chosen, tokenizer, made, wanted, 3, "one", as_published)


def test_a_batch_of_images(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    batch = maker(corpus, tokenizer, region_share=0.0).make(PLACES)
    assert batch["pixel_values"].shape == (8, 3, 64, 64)
    assert batch["pixel_values"].dtype == torch.float32
    assert "idx_to_group_img" not in batch
    assert bool((batch["input_ids"][:, 0] == 2).all())  # [CLS]
    assert not bool((batch["input_ids"] == 3).any())  # no [SEP]
    lengths = batch["attention_mask"].sum(dim=1)
    assert batch["input_ids"].shape[1] == lengths.max()
    assert bool(((batch["input_ids"] != 0).long() == batch["attention_mask"]).all())
    flat, masked = batch["input_ids"].flatten(), batch["masked_input_ids"].flatten()
    places = batch["masked_positions"]
    assert torch.equal(flat[places], batch["masked_labels"])
    untouched = torch.ones(len(flat), dtype=torch.bool)
    untouched[places] = False
    assert torch.equal(flat[untouched], masked[untouched])
    counts = torch.bincount(places // batch["input_ids"].shape[1], minlength=8)
    wanted = [min(8, max(1, round(0.25 * length))) for length in lengths.tolist()]
    assert counts.tolist() == wanted
    assert bool((places % batch["input_ids"].shape[1] != 0).all())  # never [CLS]
    assert batch["box_valid"].tolist() == [0.0] * 8
    assert batch["box_targets"][0].tolist() == [0.5, 0.5, 1, 1]
    assert batch["negative_draws"].shape == (8, 2)
    assert "match_groups" not in batch


def test_the_published_layout_is_padded(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    batch = maker(corpus, tokenizer, as_published=True).make(PLACES)
    assert batch["input_ids"].shape == (8, 40)


def test_texts_may_end_with_a_separator(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    made = maker(corpus, tokenizer, region_share=0.0, text_end="sound", max_seq_length=6)
    batch = made.make(PLACES)
    last = batch["attention_mask"].sum(dim=1) - 1
    assert batch["input_ids"].gather(1, last[:, None]).flatten().tolist() == [3] * 8
    assert not bool((batch["masked_labels"] == 3).any())
    assert batch["input_ids"].shape[1] == 6


def test_a_batch_of_regions(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    made = maker(corpus, tokenizer, region_share=1.0)
    batch = made.make(PLACES)
    images = len(batch["pixel_values"])
    assert 1 <= images <= 3  # 0.375 of eight
    group, masks = batch["idx_to_group_img"], batch["image_atts"]
    assert len(group) == len(batch["input_ids"]) == 8
    assert set(group.tolist()) == set(range(images))
    assert masks.shape == (8, 5)
    assert bool((masks[:, 0] == 1).all())
    assert bool((masks[:, 1:].sum(dim=1) >= 1).all())
    whole = batch["box_valid"] == 0
    assert bool((masks[whole] == 1).all())
    assert batch["box_targets"][whole].unique(dim=0).tolist() == [[0.5, 0.5, 1, 1]]
    boxes = batch["box_targets"][~whole]
    assert len(boxes) >= 1
    assert bool(((boxes[:, :2] - boxes[:, 2:] / 2) >= -1e-6).all())
    assert bool(((boxes[:, :2] + boxes[:, 2:] / 2) <= 1 + 1e-6).all())
    assert batch["negative_draws"].shape == (8, 2)


def test_region_batches_repeat_what_is_missing(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    changes = {"region_share": 1.0, "region_images": 0.125}
    published = maker(corpus, tokenizer, **changes).make(PLACES)
    sound = maker(corpus, tokenizer, region_padding="sound", **changes).make(PLACES)
    assert "match_groups" not in published
    rows = torch.cat([sound["input_ids"].float(), sound["box_targets"]], dim=1)
    groups = sound["match_groups"]
    assert len(groups) == 8
    assert len(groups.unique()) < 8  # one image has five concepts at most
    for one in range(8):
        for other in range(8):
            assert (groups[one] == groups[other]) == torch.equal(rows[one], rows[other])


def test_the_kind_of_a_batch_depends_on_its_first_position(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    made = maker(corpus, tokenizer)
    kinds = [made._is_region_batch([(0, 0, 0, position)]) for position in range(100_000)]
    assert np.mean(kinds) == pytest.approx(1 / 3, abs=0.005)
    again = [made._is_region_batch([(0, 5, 2, position), (0, 1, 0, 7)]) for position in range(50)]
    assert again == kinds[:50]
    without = maker(corpus, tokenizer, {"itc": 1.0})
    assert not any(without._is_region_batch([(0, 0, 0, position)]) for position in range(50))


def test_where_no_sample_has_phrases_images_are_taken(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    plain = corpus_of(tmp_path, "plain", images=True)
    made = maker([corpus, plain], tokenizer, region_share=1.0)
    batch = made.make([(1, number, 0, number) for number in range(4)])
    assert "idx_to_group_img" not in batch
    assert len(batch["pixel_values"]) == 4
    mixed = made.make([(1, 0, 0, 0), (1, 1, 0, 1), (0, 2, 0, 2), (0, 3, 0, 3)])
    assert len(mixed["idx_to_group_img"]) == 4


def test_a_sample_is_the_same_in_any_batch(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    made = maker(corpus, tokenizer, region_share=0.0, as_published=True)
    together, apart = made.make(PLACES), made.make([PLACES[5], PLACES[2]])
    for name in ("pixel_values", "input_ids", "masked_input_ids", "negative_draws"):
        assert torch.equal(together[name][[5, 2]], apart[name]), name
    later = made.make([(0, number, 1, number) for number in (5, 2)])
    assert not torch.equal(later["pixel_values"], apart["pixel_values"])
    assert not torch.equal(later["negative_draws"], apart["negative_draws"])
    # A region batch of one sample has its concepts whatever follows.
    regional = maker(corpus, tokenizer, region_share=1.0, region_images=0.01)
    first, second = regional.make(PLACES[:4]), regional.make([PLACES[0], *PLACES[4:7]])
    for name in ("pixel_values", "image_atts", "box_targets", "negative_draws"):
        assert torch.equal(first[name], second[name]), name


def test_pairs_are_shown_as_they_are(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> None:
    made = maker(corpus, tokenizer, {})
    batch = made.pairs(corpus, [4, 2, 4], ["a red kite", "a dog", "A blue boat!"])
    assert batch["pixel_values"].shape == (2, 3, 64, 64)
    assert batch["idx_to_group_img"].tolist() == [0, 1, 0]
    assert batch.keys() == {"pixel_values", "idx_to_group_img", "input_ids", "attention_mask"}
    model = XvlmForPreTraining(config(tokenizer)).eval()
    scores = model.score(**batch)
    alone = made.pairs(corpus, [2], ["a dog"])
    assert torch.allclose(model.score(**alone), scores[1:2], atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_model_reads_both_kinds(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, share: float
) -> None:
    torch.manual_seed(0)
    changes = {"region_share": share, "region_padding": "sound"}
    batch = maker(corpus, tokenizer, **changes).make(PLACES)
    model = XvlmForPreTraining(config(tokenizer, **changes))
    total, losses = compute(model(**batch), batch, ALL)
    total.backward()
    assert losses.keys() == ALL.keys()
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    assert (losses["bbox"] > 0) == (share == 1.0)


def test_corpora_that_lack_something_are_refused(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    bare = corpus_of(tmp_path / "bare", "bare")
    with pytest.raises(RequestError, match=r"bare: no images .* shards.image original"):
        maker(bare, tokenizer, {"itc": 1.0})
    plain = corpus_of(tmp_path / "plain", "plain", images=True)
    with pytest.raises(RequestError, match=r"plain: no regions_text .* bbox needs it"):
        maker(plain, tokenizer)
    maker(plain, tokenizer, {"itc": 1.0, "itm-hard": 1.0, "mlm": 1.0})
    maker([plain, corpus], tokenizer)
    with pytest.raises(RequestError, match="make it as large"):
        maker(corpus, tokenizer, vocab_size=20)
    with pytest.raises(RequestError, match="knows no contrast"):
        maker(corpus, tokenizer, {"contrast": 1.0})
    with pytest.raises(RequestError, match=r"set batch\.micro_batch to two"):
        maker(corpus, tokenizer).make(PLACES[:1])


def test_a_broken_image_is_named(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = maker(corpus, tokenizer, region_share=0.0)
    whole = corpus.image(3)
    assert whole is not None
    monkeypatch.setattr(corpus, "image", lambda number: whole[: len(whole) // 2])
    with pytest.raises(WorkError, match=f"image of {corpus[3].key}: "):
        made.make(PLACES[3:5])


def seen(mask: np.ndarray) -> list[int]:
    return np.nonzero(mask)[0].tolist()


def test_regions_cover_the_patches_that_they_touch() -> None:
    assert seen(patch_mask((0, 0, 224, 224), 224, 7)) == list(range(50))
    assert seen(patch_mask(None, 224, 7)) == list(range(50))
    assert seen(patch_mask((31, 0, 2, 2), 224, 7)) == [0, 1, 2]
    assert seen(patch_mask((32, 64, 32, 1), 224, 7)) == [0, 1 + 7 * 2 + 1]
    assert seen(patch_mask((224, 224, 0, 0), 224, 7)) == [0, 49]
    assert seen(patch_mask((190, 30, 40, 40), 224, 7)) == [0, 6, 7, 13, 14, 20, 21]


def test_targets_are_centre_and_size() -> None:
    assert box_target((56, 0, 112, 56), 224).tolist() == [0.5, 0.125, 0.5, 0.25]
    assert box_target(None, 224).tolist() == [0.5, 0.5, 1, 1]


def test_boxes_follow_crop_and_mirror() -> None:
    crop = (100, 50, 212, 274)  # 112 wide, 224 high
    assert box_in_view((100, 50, 156, 274), crop, RULE, False) == (0, 0, 112, 224)
    assert box_in_view((100, 50, 156, 274), crop, RULE, True) == (112, 0, 112, 224)
    assert box_in_view((80, 60, 130, 70), crop, RULE, False) == (0, 10, 60, 10)
    assert box_in_view((50, 60, 150, 70), crop, RULE, False) is None  # half is not enough
    assert box_in_view((49, 60, 151, 70), crop, RULE, False) is None
    assert box_in_view((0, 0, 10, 10), crop, RULE, False) is None


def test_views_hold_a_phrase_and_count_their_concepts() -> None:
    image = np.zeros((120, 200, 3), dtype=np.uint8)
    phrases = [
        Phrase(number, f"thing {number}", (number * 20, 10, number * 20 + 15, 50))
        for number in range(1, 9)
    ]
    rule = ViewRule(side=32, most=5, least_area=0.5, careful=False)
    firsts, counts, mirrored = [], [], 0
    for seed in range(1500):
        view, concepts = region_view(image, "all", phrases, rule, generator("view", seed))
        assert view.shape == (32, 32, 3)
        assert concepts[0].box is None
        counts.append(len(concepts))
        firsts.append(concepts[1].number)
        starts = {concept.number: concept.box[0] for concept in concepts if concept.box}
        if 1 in starts and 8 in starts:
            mirrored += 1 if starts[1] > starts[8] else -1
    assert (min(counts), max(counts)) == (2, 5)
    assert set(firsts) == set(range(1, 9))
    assert abs(mirrored) < 60


def test_careful_images_keep_their_sides() -> None:
    assert mirrors(["a dog left of a boat"], False, 0.4)
    assert not mirrors(["a dog left of a boat"], True, 0.4)
    assert not mirrors(["a dog", "the rightmost kite"], True, 0.4)
    assert mirrors(["a bright dog"], True, 0.4)
    assert not mirrors(["a bright dog"], True, 0.6)


def test_phrases_are_cut_to_pixels_and_to_the_image() -> None:
    def meta(*boxes: Sequence[float]) -> dict[str, object]:
        entries = [{"box": list(box), "phrase": "it"} for box in boxes]
        return {"width": 100, "height": 50, "regions_text": entries}

    found = phrases_of(meta((1.7, 2.2, 11.9, 7), (90, 40, 130, 90), (5, 5, 5.5, 9)), 100, 50)
    assert [(phrase.number, phrase.corners) for phrase in found] == [
        (1, (1, 2, 11, 6)),
        (2, (90, 40, 100, 50)),
    ]
    (scaled,) = phrases_of(meta((10, 10, 20, 20)), 200, 100)
    assert scaled.corners == (20, 20, 40, 40)
    assert phrases_of({"width": 9, "height": 9}, 9, 9) == []


def test_texts_are_plain_words() -> None:
    assert plain_words("A man,  in a T-shirt/jeans (#1)!\n", 40) == "a man in a t shirt jeans 1"
    assert plain_words("<person> waves; one two three", 3) == "person waves one"
    assert plain_words("...", 5) == ""


def test_a_text_without_words_is_the_start_alone(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch: dict[str, Tensor] = maker(corpus, tokenizer, {}).pairs(corpus, [0], ["..."])
    assert batch["input_ids"].tolist() == [[2]]
