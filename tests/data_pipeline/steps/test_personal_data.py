"""What names a person's mailbox or telephone goes; other numbers stay."""

import pytest

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.personal_data import holds_personal_data, without_personal_data
from data_pipeline.steps.sentences import Judge

PERSONAL = (
    "A boat, write to jane.doe+x@mail.example.org",
    "A boat jane (at) example (dot) org",
    "A boat jane [at] example.org",
    "A boat mailto:jane@exämple.de",
    "A boat, call +44 20 7946 0958",
    "A boat, call (030) 123 45 67",
    "A boat (555) 123-4567",
    "A boat, call 555-1234",
    "A boat +15551234567",
    "A boat 5551234567",
    "A boat, tel. 0171/1234567",
    "A boat +49 (0)30 1234567",
    "A boat 555.123.4567",
    "A boat, phone: 12345678",
    "A boat https://example.org/a?b=c",
)
PUBLIC = (
    "Bus 73 in 1998, 12 people",
    "A boat on 2024-05-12",
    "12.05.2024 a boat",
    "the years 1914 1918 1939 1945",
    "Built 1998-2004",
    "at 10 000 000 people",
    "a prize of 5.000.000",
    "1920 x 1080 pixels",
    "Screen Shot 2023 06 26",
    "the buildings date back to 1850.116",
    "Museo Civico Archeologico, 8410-850",
    "ISBN 978-3-16-148410-0 a book",
    "coordinates 48.8584 2.2945",
    "from 10:30 to 12.30",
    "Photo 20240512 of a boat",
    "A cat, a dog; and a bird: all three",
)


@pytest.mark.parametrize("text", PERSONAL)
def test_personal_data_goes(text: str) -> None:
    left = without_personal_data(text)
    assert left.startswith("A boat")
    assert not any(mark in left for mark in "@0123456789/")
    assert holds_personal_data(text)
    assert not holds_personal_data(left)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_names_no_one_stays(text: str) -> None:
    assert without_personal_data(text) == text
    assert not holds_personal_data(text)


@pytest.mark.parametrize(
    "text", ["1 " * 50_000, "a." * 50_000 + "@", "(at)" * 20_000, "+" * 99_999]
)
def test_long_texts_cost_little(text: str) -> None:
    assert len(without_personal_data(text)) <= len(text)


@pytest.mark.parametrize(
    ("what", "reason", "left"),
    [
        ("remove", "", "A boat on a quiet lake"),
        ("drop", "personal-data", None),
        ("keep", "", "A boat on a quiet lake, call 555-1234"),
    ],
)
def test_the_recipe_says_what_happens(what: str, reason: str, left: str | None) -> None:
    content = {
        "name": "t",
        "collect": {"source": {"kind": "warc", "uris": ["x"]}},
        "text_filter": {"personal_data": what},
    }
    row = Judge(CorpusRecipe.model_validate(content)).row(
        [["alt", "A boat on a quiet lake, call 555-1234"]]
    )
    assert row["reason"] == reason
    assert left is None or f'"{left}"' in row["texts"]
