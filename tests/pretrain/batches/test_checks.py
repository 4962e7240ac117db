"""Corpora that lack what an objective needs are refused, with what to do about it."""

from pathlib import Path

import pytest

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.checks import (
    FIELDS,
    check_classes,
    check_distribution,
    check_features,
    check_field,
    check_others,
    check_vocabulary,
)
from pretrain.batches.tokenise import TextEncoder, train_tokenizer
from tests.pretrain import tiny_corpus
from trawl.errors import RequestError


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("bare")
    lacking = {"regions": False, "tags": False, "attributes": False}
    return Corpus(tiny_corpus.write(folder, "bare", 4, **lacking))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("full")
    extras = {"class_probs": 9, "regions_text": True, "questions": True, "images": True}
    return Corpus(tiny_corpus.write(folder, "full", 4, **extras))


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_field_that_is_nowhere_is_named_with_its_remedy(
    bare: Corpus, full: Corpus, field: str
) -> None:
    check_field(full, field, "moc")
    with pytest.raises(RequestError) as raised:
        check_field(bare, field, ("moc", "mrfr"))
    message = str(raised.value)
    assert message.startswith(f"{bare.uri}: no {field} in the first 4 samples, and moc and mrfr")
    assert "`trawl corpus build`" in message


def test_negatives_need_a_second_sample(tmp_path: Path) -> None:
    lonely = Corpus(tiny_corpus.write(tmp_path, "lonely", 1))
    with pytest.raises(RequestError, match="1 samples; itm takes texts or images of other samples"):
        check_others(lonely, "itm")


def test_widths_and_classes_must_fit(full: Corpus) -> None:
    check_features(full, 38, "img_feature_dim", extra=6)
    with pytest.raises(RequestError, match=r"32-d features.*model.config.visual_dim to 32"):
        check_features(full, 2048, "visual_dim")
    check_classes(full, 8, "object_classes")
    with pytest.raises(RequestError, match=r"names 8 objects.*head has 7.*object_classes to 8"):
        check_classes(full, 7, "object_classes")
    with pytest.raises(RequestError, match=r"names 4 attributes.*num_attributes to 4"):
        check_classes(full, 3, "num_attributes", attributes=True)


def test_the_distribution_must_be_over_the_classes_of_the_head(bare: Corpus, full: Corpus) -> None:
    check_distribution(full, 9, "object_classes")
    with pytest.raises(RequestError, match=r"over 9 classes.*head has 8.*object_classes to 9"):
        check_distribution(full, 8, "object_classes")
    fix = r"no class_probs in the first 4 samples.*regions\.class_probabilities true"
    with pytest.raises(RequestError, match=fix):
        check_distribution(bare, 9, "object_classes")


def test_the_vocabulary_must_hold_the_tokenizer() -> None:
    encoder = TextEncoder(train_tokenizer(["a red dog", "a red kite"], 40))
    check_vocabulary(encoder, encoder.words)
    with pytest.raises(RequestError, match="vocab_size is 9; make it as large"):
        check_vocabulary(encoder, 9)
