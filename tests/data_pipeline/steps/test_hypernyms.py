"""Names and numbers become more general words, by the recipe's table."""

import json
from pathlib import Path

import pytest

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.hypernyms import Table, generalise, load_table, plural
from data_pipeline.steps.sentences import Judge
from trawl.errors import RequestError

LINES = """# names of people and places
Harrison Ford\tactor
Calista Flockhart\tactor
los angeles\tcity
Paris\tcity
<number>\t
<name>\tperson
"""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    (tmp_path / "table.tsv").write_text(LINES)
    return load_table(str(tmp_path / "table.tsv"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Harrison Ford and Calista Flockhart attend a premiere", "actors attend a premiere"),
        ("Harrison Ford, Calista Flockhart and Harrison Ford", "actors"),
        ("Harrison Ford and a dog in Paris", "actor and a dog in city"),
        ("A man in LOS ANGELES, 2014", "A man in city"),
        ("A woman in paris", "A woman in paris"),
        ("Barack Obama's dog and a cat", "person's dog and a cat"),
        ("Dogs play. Mary Poppins looks on with Bob", "Dogs play. person looks on with person"),
        ("The 3 cats of the 1960s", "The cats of the"),
        ("an old mill by the river", "an old mill by the river"),
        ("", ""),
    ],
)
def test_texts_are_generalised(table: Table, text: str, expected: str) -> None:
    assert generalise(text, table) == expected


def test_what_the_table_does_not_name_stays(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text("Paris\tcity\n")
    table = load_table(str(tmp_path / "table.tsv"))
    assert generalise("Mary in Paris in 1998", table) == "Mary in city in 1998"


def test_plurals() -> None:
    assert [plural(word) for word in ("actor", "church", "city", "football player", "person")] == [
        "actors",
        "churches",
        "cities",
        "football players",
        "people",
    ]


@pytest.mark.parametrize("line", ["Paris city", "Paris\tcity\tmore", "\tcity"])
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "table.tsv").write_text(f"# first\n{line}\n")
    with pytest.raises(RequestError, match=r"table\.tsv: line 2"):
        load_table(str(tmp_path / "table.tsv"))


def test_captions_are_generalised_where_the_recipe_names_a_table(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text(LINES)
    content = {
        "name": "t",
        "collect": {"source": {"kind": "warc", "uris": ["x"]}},
        "text_filter": {"hypernyms": str(tmp_path / "table.tsv")},
    }
    judge = Judge(CorpusRecipe.model_validate(content))
    row = judge.row([["alt", "Harrison Ford walks his dog in Los Angeles"]])
    assert json.loads(row["texts"])[0][1] == "actor walks his dog in city"
    assert judge.row([["alt", "Harrison Ford in Paris"]])["reason"] == ""
    short = judge.row([["alt", "Harrison Ford, Calista Flockhart"]])
    assert short["reason"] == "too-short"
    assert "Flockhart" in short["rejected"]
