"""What LXMERT's batches refuse before the first step: objectives, configurations, corpora."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from data_pipeline.corpus.reader import Corpus
from tests.pretrain import tiny_corpus
from tests.pretrain.batches.lxmert_setting import SAMPLES, learn_tokenizer, maker, write_corpus
from trawl.errors import RequestError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> PreTrainedTokenizerBase:
    return learn_tokenizer(corpus)


@pytest.mark.parametrize(
    ("objectives", "changes", "message"),
    [
        ({"bbox": 1.0}, {}, "this model knows no bbox"),
        ({"qa": 1.0}, {"answer_head": False}, "set model.config.answer_head to true"),
        ({"qa": 1.0}, {"answers": []}, "qa needs a table of answers; set model.config.answers"),
        ({"qa": 1.0}, {"questions": False}, "set model.config.questions to true"),
        ({"contrast": 1.0}, {"contrast_head": True}, "set model.config.tags to true"),
        (
            {"moc-confidence": 1.0, "mrfr": 1.0},
            {},
            "mrfr .*set model.config.region_losses to sound",
        ),
        ({"mlm": 1.0}, {"vocab_size": 10}, "vocab_size is 10; make it as large"),
        ({"mlm": 1.0}, {"visual_feat_dim": 9}, "set model.config.visual_feat_dim to 32"),
        ({"moc": 1.0}, {"num_object_labels": 3}, "set model.config.num_object_labels to 8"),
        ({"moc-kl": 1.0}, {"num_object_labels": 9}, "num_object_labels to 8"),
        ({"attributes": 1.0}, {"num_attr_labels": 3}, "set model.config.num_attr_labels to 4"),
        ({"itm": 1.0}, {"region_count": "as_published"}, "region_count to sound, or run .*butd-36"),
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
        maker(corpus, tokenizer, objectives, **changes)


@pytest.mark.parametrize(
    ("objective", "lacks", "message"),
    [
        ("qa", {"questions": False}, "no questions .*collect.source.questions"),
        ("attributes", {"attributes": False}, "no attributes in the first"),
        ("moc-kl", {"class_probs": 0}, "no class_probs in the first"),
        ("moc-confidence", {"regions": False}, "no regions in the first"),
        ("contrast", {"tags": False}, "no tags in the first"),
        ("itm", {"samples": 1}, "1 samples; itm takes texts"),
    ],
)
def test_a_corpus_that_lacks_a_field_is_refused_before_the_first_step(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    lacks: dict[str, object],
    message: str,
) -> None:
    extras = {"samples": 8, "questions": True, "class_probs": 8, **lacks}
    poor = Corpus(tiny_corpus.write(tmp_path, "poor", **extras))
    with pytest.raises(RequestError, match=message) as caught:
        maker(poor, tokenizer, {objective: 1.0}, contrast_head=True, tags=True)
    assert str(caught.value).startswith(poor.uri)


def test_an_image_with_too_few_regions_is_named_in_the_published_form(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> None:
    published = maker(corpus, tokenizer, region_count="as_published", max_regions=2)
    poor = [number for number in range(SAMPLES) if len(corpus[number].regions) < 2]
    with pytest.raises(RequestError, match=f"sample {corpus[poor[0]].key}: 1 regions"):
        published.make([(0, poor[0], 0, 0)])
