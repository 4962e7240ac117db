"""What ViLBERT's batches refuse before the first step, naming corpus, field and fix."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from tests.pretrain import tiny_corpus
from tests.pretrain.batches.vilbert_setup import batches, full_corpus, tokenizer_of
from trawl.errors import RequestError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return full_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    return tokenizer_of(corpus)


@pytest.mark.parametrize(
    ("objectives", "changes", "message"),
    [
        ({"mln": 1.0}, {}, "unknown key mln"),
        ({"itc": 1.0}, {}, "this model knows no itc"),
        ({"mrfr": 1.0}, {}, "mrfr needs a head; set model.config.feature_head to true"),
        ({"contrast": 1.0}, {"contrast_head": True}, "set model.config.tags to true"),
        ({"mlm": 1.0}, {"vocab_size": 10}, "vocab_size is 10; make it as large"),
        ({"mlm": 1.0}, {"v_feature_size": 2048}, "set model.config.v_feature_size to 32"),
        ({"moc": 1.0}, {"v_target_size": 8}, "set model.config.v_target_size to 9"),
        ({"moc-kl": 1.0}, {"v_target_size": 1601}, "set model.config.v_target_size to 9"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    objectives: dict[str, float],
    changes: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(RequestError, match=message):
        batches(corpus, tokenizer, objectives, **changes)


@pytest.mark.parametrize(
    ("lacks", "objectives", "message"),
    [
        ({"samples": 1}, {"itm": 1.0}, "1 samples; itm takes texts"),
        ({}, {"moc-kl": 1.0}, "no class_probs in the first 4 samples, and moc-kl needs it; .*moc"),
        ({"regions": False}, {"moc": 1.0}, "no regions .*moc needs it; .*regions.detector"),
        ({"tags": False}, {"contrast": 1.0}, "no tags .*contrast needs it"),
    ],
)
def test_a_corpus_that_lacks_what_is_needed_is_refused(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerBase,
    lacks: dict[str, object],
    objectives: dict[str, float],
    message: str,
) -> None:
    poor = Corpus(tiny_corpus.write(tmp_path, "poor", **{"samples": 4, **lacks}))
    with pytest.raises(RequestError, match=f"{tmp_path}: .*{message}"):
        batches(poor, tokenizer, objectives, tags=True, contrast_head=True)
