"""LXMERT's sentences and answers, counted over 1e5 draws and more."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.corpus.reader import Corpus
from pretrain.batches.lxmert_answers import AnswerTable, normalised
from pretrain.batches.lxmert_sentences import SentenceSource, sentences
from pretrain.batches.pairs import PairSource
from pretrain.batches.pollute import CLEAN_ABOVE, change_for
from pretrain.models.lxmert_config import LxmertConfig
from tests.pretrain import tiny_corpus
from trawl.chance import generator

DRAWS = 100_000
SAMPLES = 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    return Corpus(tiny_corpus.write(folder, "sentences", SAMPLES, questions=True))


def source(corpus: Corpus, share: float = 0.5, **changes: object) -> SentenceSource:
    pairs = PairSource([corpus], 0, "one")
    return SentenceSource(pairs, LxmertConfig.of_size("tiny", **changes), True, share)


def test_half_of_the_samples_are_mismatched(corpus: Corpus) -> None:
    pairs = PairSource([corpus], 0, "one")
    draws = [pairs.chance((0, 1, epoch, 0), "pollution").random() for epoch in range(DRAWS)]
    changes = Counter(change_for(draw, CLEAN_ABOVE, has_tags=True) for draw in draws)
    assert set(changes) == {"nothing", "caption"}
    assert changes["caption"] / DRAWS == pytest.approx(0.5, abs=0.006)
    # The sentences that are drawn follow these draws.
    drawing = source(corpus)
    for epoch, draw in enumerate(draws[:500]):
        drawn = drawing.draw((0, 1, epoch, 0), corpus[1])
        assert drawn.change == change_for(draw, CLEAN_ABOVE, has_tags=True)


def test_all_sentences_of_an_image_are_equally_likely(corpus: Corpus) -> None:
    drawing = source(corpus)
    sample = max((corpus[number] for number in range(SAMPLES)), key=lambda s: len(sentences(s)))
    own = [sentence.text for sentence in sentences(sample)]
    draws = 10_000
    drawn = [drawing.draw((0, 1, epoch, 0), sample) for epoch in range(draws)]
    counts = Counter(each.text for each in drawn if each.change == "nothing")
    assert len(own) > 2
    assert set(counts) == set(own)
    for text in own:
        assert counts[text] / counts.total() == pytest.approx(1 / len(own), abs=0.02)


def test_a_sentence_called_another_images_may_say_the_same_unless_sound(tmp_path: Path) -> None:
    # Eighty images of one to four things: some captions come twice.
    twins = Corpus(tiny_corpus.write(tmp_path, "twins", 80))
    texts = [twins[number].meta["captions"][0]["text"] for number in range(80)]
    (twin, _), *_ = Counter(texts).most_common(1)
    number = texts.index(twin)
    same = {}
    for form in ("as_published", "sound"):
        drawing = source(twins, random_sentence=form)
        drawn = [drawing.draw((0, number, epoch, 0), twins[number]) for epoch in range(4000)]
        wrong = [each.text for each in drawn if each.change == "caption"]
        same[form] = wrong.count(twin) / len(wrong)
    assert same["as_published"] == pytest.approx((texts.count(twin) - 1) / 79, abs=0.02)
    assert same["as_published"] > 0
    assert same["sound"] == 0


def test_where_all_images_say_the_same_the_sound_form_calls_them_matches(tmp_path: Path) -> None:
    corpus = Corpus(tiny_corpus.write(tmp_path, "same", 2))
    for form, changed in (("as_published", "caption"), ("sound", "nothing")):
        drawing = source(corpus, share=0.5, random_sentence=form)
        # Both samples of this corpus are read as the first one.
        twin = corpus[1]
        draws = [drawing.draw((0, 0, epoch, 0), twin).change for epoch in range(50)]
        assert set(draws) == {"nothing", changed}


def test_polluted_samples_are_a_quarter_tags_and_a_quarter_sentences(corpus: Corpus) -> None:
    drawing = source(corpus, share=0.25, tags=True)
    samples = [corpus[number] for number in range(SAMPLES)]
    counts: Counter[str] = Counter()
    for epoch in range(250):
        for number, sample in enumerate(samples):
            counts[drawing.draw((0, number, epoch, 0), sample).change] += 1
    total = counts.total()
    assert counts["caption"] / total == pytest.approx(0.25, abs=0.02)
    assert counts["tags"] / total == pytest.approx(0.25, abs=0.02)


def test_a_question_that_comes_twice_is_one_sentence_with_both_answers(corpus: Corpus) -> None:
    sample = corpus[0]
    sample.meta["questions"] = [
        {"question": "who", "answer": "a man"},
        {"question": "what", "answer": "dog"},
        {"question": "who", "answer": "woman"},
    ]
    caption, who, what = sentences(sample)
    assert caption.answers == ()
    assert (who.text, who.answers) == ("who", ("a man", "woman"))
    assert (what.text, what.answers) == ("what", ("dog",))
    assert sentences(sample, questions=False) == [caption]


def test_answers_are_drawn_as_often_as_they_were_given() -> None:
    table = AnswerTable(["red", "blue", "2"])
    chance = generator("answers", 0)
    given = ["Blue", "two.", "the blue", "purple"]
    drawn = Counter(table.draw(given, chance) for _ in range(DRAWS))
    assert set(drawn) == {1, 2}  # purple is not in the table
    assert drawn[1] / DRAWS == pytest.approx(2 / 3, abs=0.006)
    assert table.draw(["purple"], chance) == -1
    assert table.draw([], chance) == -1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The man.", "man"),
        ("a man", "man"),
        ("an apple", "apple"),
        ("Grey", "gray"),
        ("ten", "10"),
        ("another", "another"),
        ("", ""),
    ],
)
def test_answers_are_spelled_as_lxmert_spells_them(answer: str, expected: str) -> None:
    assert normalised(answer) == expected


def test_random_regions_come_from_all_images_alike(corpus: Corpus) -> None:
    pairs = PairSource([corpus], 0, "one")
    owner = {
        row.tobytes(): number
        for number in range(SAMPLES)
        for row in corpus[number].regions.float_features()
    }
    draws = generator("features", 0).random(10_000)
    found = np.bincount(
        [
            owner[pairs.region((0, 0, 0, 0), float(draw)).float_features()[0].tobytes()]
            for draw in draws
        ],
        minlength=SAMPLES,
    )
    assert found / len(draws) == pytest.approx(1 / SAMPLES, abs=0.009)
