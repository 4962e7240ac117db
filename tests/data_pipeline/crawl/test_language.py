"""Language of texts: the fast path agrees with the model, and short texts say little."""

import pytest

from data_pipeline.crawl.language import MAX_CHARACTERS, _by_model, _sample, language

TEXTS = {
    "en": "The boats that lie in the harbour were built by their owners when they had no work, "
    "and when the wind is low you can see them from the hill.",
    "nl": "De boten die in de haven liggen zijn door de eigenaren zelf gebouwd toen zij geen werk "
    "hadden, en als de wind gaat liggen kun je ze vanaf de heuvel zien.",
    "de": "Die Boote im Hafen wurden von ihren Besitzern gebaut, als sie keine Arbeit hatten, und "
    "bei wenig Wind kann man sie vom Hügel aus sehen.",
    "fr": "Les bateaux du port ont été construits par leurs propriétaires quand ils n'avaient pas "
    "de travail, et quand le vent tombe on les voit de la colline.",
    "da": "Bådene i havnen blev bygget af deres ejere, da de ikke havde arbejde, og når vinden er "
    "svag, kan man se dem fra bakken.",
    "ru": "Лодки в гавани построили их хозяева, когда у них не было работы.",
    "ja": "港の船は、仕事がなかったときに持ち主が自分で作ったものです。",
}


@pytest.mark.parametrize("code", TEXTS)
def test_languages_are_told_apart(code: str) -> None:
    found, probability = language(TEXTS[code])
    assert found == code
    assert probability > 0.9


@pytest.mark.parametrize("code", TEXTS)
def test_the_fast_path_agrees_with_the_model(code: str) -> None:
    assert language(TEXTS[code])[0] == _by_model(_sample(TEXTS[code]))[0]


@pytest.mark.parametrize("text", ["", "dog", "IMG_1234.JPG", "12.5 x 30", "http://a.org/english"])
def test_too_little_text_has_no_language(text: str) -> None:
    assert language(text) == ("", 0.0)


def test_a_name_is_not_believed() -> None:
    assert language("Big Ben, London")[1] < 0.5


def test_only_the_beginning_counts() -> None:
    assert language(TEXTS["en"] * 9)[0] == "en"
    assert len(_sample(TEXTS["en"] * 999)) == MAX_CHARACTERS
