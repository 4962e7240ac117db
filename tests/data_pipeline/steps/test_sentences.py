"""From a candidate's texts to those that may describe its image."""

import json

from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.sentences import Judge

WARC = {"kind": "warc", "uris": ["x"]}
CAPTIONS = {"kind": "captions", "captions": "c.json", "images": "images"}


def _judge(source: dict[str, object], **text_filter: object) -> Judge:
    content = {"name": "t", "collect": {"source": source}, "text_filter": text_filter}
    return Judge(CorpusRecipe.model_validate(content))


def test_texts_that_pass_come_most_trusted_first() -> None:
    row = _judge(WARC).row(
        [
            ["surrounding", "The council met on Monday. A red cup stands on the table."],
            ["title", "A red cup on a table"],
            ["alt", "IMG_0001.jpg"],
            ["figcaption", "A red cup."],
        ]
    )
    assert row["reason"] == ""
    assert [entry[:2] for entry in json.loads(row["texts"])] == [
        ["figcaption", "A red cup."],
        ["title", "A red cup on a table"],
        ["surrounding", "The council met on Monday."],
        ["surrounding", "A red cup stands on the table."],
    ]
    assert json.loads(row["rejected"]) == [["alt", "file-name", "IMG_0001.jpg"]]


def test_the_fault_is_that_of_the_most_trusted_text() -> None:
    judge = _judge(WARC)
    assert judge.row([])["reason"] == "no-text"
    assert judge.row([["alt", ""], ["title", "  "]])["reason"] == "no-text"
    texts = [["filename", "photo 12"], ["alt", "Buy cheap loans online"], ["heading", "News"]]
    assert judge.row(texts)["reason"] == "spam"


def test_captions_of_people_are_taken_as_they_are() -> None:
    row = _judge(CAPTIONS).row([["caption", "A cup"], ["caption", "two  cups, cheap"]])
    assert [entry[1] for entry in json.loads(row["texts"])] == ["A cup", "two cups, cheap"]
    strict = _judge(CAPTIONS, enabled=True).row([["caption", "A cup"]])
    assert strict["reason"] == "too-short"
