"""What Oscar's batches can do besides: questions, other sources of tags, objectives of others."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.oscar import OscarBatches
from pretrain.batches.pairs import Place
from pretrain.batches.tokenise import train_tokenizer
from pretrain.models.oscar import OscarForPreTraining
from pretrain.models.oscar_config import OscarConfig
from pretrain.objectives import compute
from tests.pretrain import tiny_corpus
from trawl.errors import RequestError

PLACES: list[Place] = [(0, number, epoch, 0) for epoch in range(20) for number in range(40)]
FOUR = {"mlm": 1.0, "moc": 1.0, "mrfr": 1.0, "itm": 1.0}
HEADS = {"object_classes": 9, "feature_head": True, "match_head": True}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    extras = {"class_probs": 9, "regions_text": True, "questions": True}
    return Corpus(tiny_corpus.write(folder, "options", 40, **extras))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    metas = [corpus[number].meta for number in range(len(corpus))]
    texts = [caption["text"] for meta in metas for caption in meta["captions"]]
    texts += [pair["question"] for meta in metas for pair in meta["questions"]]
    return train_tokenizer(texts, 200)


def maker(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    objectives: dict[str, float],
    **changes: object,
) -> OscarBatches:
    settings = {
        "vocab_size": len(tokenizer),
        "img_feature_dim": tiny_corpus.FEATURES + 6,
        "max_seq_length": 64,
        "max_regions": 4,
        **changes,
    }
    config = OscarConfig.of_size("tiny", **settings)
    return OscarBatches([corpus], tokenizer, config, objectives, 3, "one")


def texts(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> tuple[str, str]:
    """Caption and tags of one row."""
    words = tokenizer.convert_ids_to_tokens(ids.tolist())
    end = words.index("[SEP]")
    rest = words[end + 1 :]
    tags = rest[: rest.index("[SEP]")] if "[SEP]" in rest else []
    return " ".join(words[1:end]), " ".join(tags)


def test_questions_come_with_their_answers_as_often_as_captions(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, {"mlm": 1.0}, mask_probability=0.0, use_questions=True).make(
        PLACES
    )
    asked, expected = 0, 0.0
    for (_, number, _, _), ids in zip(PLACES, batch["input_ids"], strict=True):
        meta = corpus[number].meta
        text, tags = texts(tokenizer, ids)
        answers = {pair["question"]: set() for pair in meta["questions"]}
        for pair in meta["questions"]:
            answers[pair["question"]].add(pair["answer"])
        if text in answers:
            assert tags in answers[text]
            asked += 1
        else:
            assert (text, tags) == (meta["captions"][0]["text"], " ".join(meta["tags"]))
        expected += len(meta["questions"]) / (1 + len(meta["questions"]))
    assert asked / len(PLACES) == pytest.approx(expected / len(PLACES), abs=0.05)


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_wrong_tags_come_from_where_the_mode_says(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, mode: int
) -> None:
    batch = maker(corpus, tokenizer, {"contrast": 1.0}, textb_sample_mode=mode).make(PLACES)
    metas = [corpus[number].meta for number in range(len(corpus))]
    sources = {
        "caption": {meta["captions"][0]["text"] for meta in metas},
        "tags": {" ".join(meta["tags"]) for meta in metas},
        "answer": {pair["answer"] for meta in metas for pair in meta["questions"]},
    }
    kinds: Counter[str] = Counter()
    wrong = batch["contrast_labels"] == 1
    for ids in batch["input_ids"][wrong]:
        tags = texts(tokenizer, ids)[1]
        kinds[next(kind for kind, known in sources.items() if tags in known)] += 1
    shares = {kind: count / int(wrong.sum()) for kind, count in kinds.items()}
    wanted = [{"caption": 0.5, "tags": 0.5}, {"tags": 1.0}, {"answer": 1.0}][mode]
    assert shares == pytest.approx(wanted, abs=0.08)
    assert wrong.float().mean() == pytest.approx(0.5, abs=0.06)


def test_annotated_phrases_may_stand_for_tags_or_nothing_at_all(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = {"mask_probability": 0.0, "tag_source": "annotated"}
    annotated = maker(corpus, tokenizer, {"mlm": 1.0}, **settings).make(PLACES[:8])
    settings["tag_source"] = "none"
    bare = maker(corpus, tokenizer, {"mlm": 1.0}, **settings).make(PLACES[:8])
    for row in range(8):
        phrases = [entry["phrase"] for entry in corpus[row].meta["regions_text"]]
        assert texts(tokenizer, annotated["input_ids"][row])[1] == " ".join(dict.fromkeys(phrases))
        assert texts(tokenizer, bare["input_ids"][row])[1] == ""
        assert not bare["token_type_ids"][row].any()


def test_without_tags_all_wrong_pairs_have_another_caption(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    batch = maker(corpus, tokenizer, {"contrast": 1.0}, tag_source="none").make(PLACES)
    assert set(batch["contrast_labels"].tolist()) == {0, 2}


def test_imageberts_objectives_run_on_oscar(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(0)
    others = ("contrast", "moc-kl", "moc-confidence", "mrfr-smooth-l1")
    weights = {**FOUR, **dict.fromkeys(others, 1.0)}
    made = maker(corpus, tokenizer, weights, texta_false_prob=0.25, **HEADS)
    model = OscarForPreTraining(made._config)
    batch = made.make(PLACES[:32])
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


def test_masked_regions_keep_their_place_and_their_targets(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    plain = maker(corpus, tokenizer, {"mlm": 1.0}, **HEADS).make(PLACES)
    assert len(plain["predicted_regions"]) == 0
    settings = {"region_mask_probability": 0.4, **HEADS}
    masked = maker(corpus, tokenizer, {"moc": 1.0, "mrfr": 1.0}, **settings).make(PLACES)
    assert torch.equal(masked["img_feats"][..., -6:], plain["img_feats"][..., -6:])
    before, after = (batch["img_feats"][..., :-6].flatten(0, 1) for batch in (plain, masked))
    places = masked["predicted_regions"]
    assert torch.equal(before[places], masked["feature_targets"])
    untouched = torch.ones(len(before), dtype=torch.bool)
    untouched[places] = False
    assert torch.equal(before[untouched], after[untouched])
    zeroed = (after[places] == 0).all(-1)
    assert zeroed.float().mean() == pytest.approx(0.9, abs=0.05)
    assert torch.equal(after[places][~zeroed], before[places][~zeroed])
    width = plain["img_feats"].shape[1]
    own = [corpus[PLACES[p // width][1]].regions.object_ids[p % width] for p in places.tolist()]
    assert masked["object_labels"].tolist() == own


def test_conditional_masking_predicts_clean_pairs_alone(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = {"conditional_masking": True, "mask_probability": 0.4, **HEADS}
    batch = maker(corpus, tokenizer, FOUR, **settings).make(PLACES)
    wrong = batch["match_labels"] == 0
    for places, width in (
        (batch["masked_positions"], batch["input_ids"].shape[1]),
        (batch["predicted_regions"], batch["img_feats"].shape[1]),
    ):
        assert len(places) > 50
        assert bool((batch["match_labels"][places // width] == 1).all())
    assert bool((batch["input_ids"][wrong] == 4).any())


def test_pairs_are_laid_out_plainly_and_scored_as_rows_are(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(0)
    made = maker(corpus, tokenizer, {}, initializer_range=0.1, **HEADS)
    model = OscarForPreTraining(made._config).eval()
    batch = made.pairs(corpus, [3, 3, 5], ["a red dog", "a boat", "a boat"])
    assert texts(tokenizer, batch["input_ids"][1]) == ("a boat", " ".join(corpus[3].meta["tags"]))
    assert not {"masked_labels", "contrast_labels", "match_labels"} & set(batch)
    with torch.no_grad():
        scores = model.score(**batch)
        logits = model(**batch).match_logits
        alone = model.score(**made.pairs(corpus, [5], ["a boat"]))
    assert scores.shape == (3,)
    assert (scores - (logits[:, 1] - logits[:, 0])).abs().max() <= 1e-6
    assert float(abs(scores[2] - alone[0])) <= 1e-5


def test_the_contrast_scores_where_there_is_no_match_head(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    made = maker(corpus, tokenizer, {}, texta_false_prob=0.25, initializer_range=0.1)
    model = OscarForPreTraining(made._config).eval()
    batch = made.pairs(corpus, [3, 5], ["a red dog", "a boat"])
    with torch.no_grad():
        logits = model(**batch).seq_relationship_logits
        assert torch.equal(model.score(**batch), logits[:, 0] - logits[:, 2])


@pytest.mark.parametrize(
    ("extras", "objectives", "changes", "message"),
    [
        ({}, {"mln": 1.0}, {}, "unknown key mln"),
        ({}, {"itm": 1.0}, {}, "set model.config.match_head to true"),
        ({}, {"moc": 1.0}, {}, "set model.config.object_classes to"),
        ({}, {"mrfr": 1.0}, {}, "set model.config.feature_head to true"),
        ({}, {"mlm": 1.0}, {"vocab_size": 10}, "vocab_size is 10; make it as large"),
        ({}, {"mlm": 1.0}, {"img_feature_dim": 2054}, r"32-d features.*img_feature_dim to 38"),
        ({"samples": 1}, {"contrast": 1.0}, {}, "1 samples; contrast takes texts or images"),
        ({"tags": False}, {"contrast": 1.0}, {}, r"no tags in the first.*`trawl corpus build`"),
        ({}, {"contrast": 1.0}, {"textb_sample_mode": 2}, "no questions in the first"),
        ({"regions": False}, {"moc": 1.0}, HEADS, "no regions in the first"),
        ({}, {"moc-kl": 1.0}, HEADS, "no class_probs in the first"),
        ({}, {"moc": 1.0}, {"object_classes": 7}, "names 8 objects"),
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
