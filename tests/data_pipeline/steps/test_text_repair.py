"""Repair of texts: encodings, marks, sentences, personal data."""

import pytest

from data_pipeline.steps.text_language import is_foreign
from data_pipeline.steps.text_repair import repair, sentences


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        ("  a \t red\n cup ", "a red cup"),
        ("Fish &amp; chips", "Fish & chips"),
        ("CafÃ© in ParisÂ\xa0today", "Café in Paris today"),
        ("itâ€™s a dog", "it's a dog"),
        ("“quoted” – text…", '"quoted" - text...'),
        ("cafe\u0301", "café"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("a <b>bold</b> claim", "a bold claim"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("bell\x07\x00", "bell"),
    ],
)
def test_texts_are_mended(raw: str, mended: str) -> None:
    assert repair(raw) == mended
    assert repair(mended) == mended


def test_sentences_are_split_where_they_end() -> None:
    text = "Dr. Smith owns a cat. It sleeps! Does it? See fig. 3 at St. Mary. End"
    assert sentences(text) == [
        "Dr. Smith owns a cat.",
        "It sleeps!",
        "Does it?",
        "See fig. 3 at St. Mary.",
        "End",
    ]
    assert sentences("no end here") == ["no end here"]
    assert sentences("") == []


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("A red cup next to a blue drum on the beach", False),
        ("Three umbrellas", False),
        ("red cup", False),
        ("Eine alte Aufnahme aus dem Album meiner Großeltern", True),
        ("Une vieille photographie de l'album de mes grands-parents", True),
        ("Aquí se puede ver lo que hicimos durante nuestro último viaje", True),
        ("Красная чашка на столе", True),
        ("红色杯子", True),
    ],
)
def test_languages_are_told(text: str, foreign: bool) -> None:
    assert is_foreign(text, ["en"], 0.7) == foreign
    assert not is_foreign(text, [], 0.7)
