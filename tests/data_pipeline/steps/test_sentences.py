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


def test_short_running_text_stays_whole_where_the_recipe_says_so() -> None:
    caption = [["figcaption", "Black tern. Mother and young with eggs."]]
    cut = json.loads(_judge(WARC).row(caption)["texts"])
    assert [entry[1] for entry in cut] == ["Mother and young with eggs."]
    whole = json.loads(_judge(WARC, undivided_words=20).row(caption)["texts"])
    assert [entry[1] for entry in whole] == ["Black tern. Mother and young with eggs."]


def test_a_notice_does_not_cost_the_caption_that_it_stands_behind() -> None:
    caption = [["figcaption", "The cap and the stem are drab. Copyright."]]
    found = json.loads(_judge(WARC, undivided_words=20).row(caption)["texts"])
    assert [entry[1] for entry in found] == ["The cap and the stem are drab."]


def test_the_number_of_a_figure_is_no_part_of_its_caption() -> None:
    for raw in (
        "Figure 46.1b. A statuette of the god",
        "[Illustration: FIG. 23, A statuette of the god]",
        "Plate 49, Figure 149. A statuette of the god",
        "4. A statuette of the god",
    ):
        found = json.loads(_judge(WARC).row([["alt", raw]])["texts"])
        assert [entry[1] for entry in found] == ["A statuette of the god"]
    assert _judge(WARC).row([["alt", "Fig. 37"]])["reason"] == "placeholder"
    assert _judge(WARC).row([["alt", "4 horses in a field"]])["reason"] == ""
