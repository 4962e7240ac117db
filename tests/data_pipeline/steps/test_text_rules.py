"""Each text rule, with cases on both sides of its border."""

import pytest

from data_pipeline.recipe import TextFilter
from data_pipeline.steps.text_rules import RULES, broken_rule

SETTINGS = TextFilter()

GOOD = (
    "A red cup next to a blue drum.",
    "Two dogs are playing on the beach in the evening sun",
    "The tower of St. Mary's church, seen from the north-west",
    "Three green bottles, a lamp, a chair, a clock and a red book on the shelf",
    "A TV set in front of a brick wall",
    "Women in traditional dress at a market in Guatemala, 1998",
    "An image of a giraffe that looks over a fence",
)

BROKEN = (
    ("file-name", "IMG_2034.jpg"),
    ("file-name", "DSC00121"),
    ("file-name", "img7729"),
    ("file-name", "photo-1 (2).PNG"),
    ("file-name", "summer_holiday_final"),
    ("file-name", "6112"),
    ("placeholder", "image"),
    ("placeholder", "[Illustration]"),
    ("placeholder", "Click to enlarge"),
    ("placeholder", "No description available"),
    ("placeholder", "Fig. 37"),
    ("placeholder", "Plate XIV"),
    ("placeholder", "see caption"),
    ("placeholder", "Cat. no. 15"),
    ("spam", "Buy cheap watches online, free shipping"),
    ("spam", "Best hosting deals 2024, up to 70% off, coupon code inside"),
    ("spam", "WIN A FREE CRUISE TODAY!!!"),
    ("spam", "shoes, boots, sandals, sneakers, heels, slippers"),
    ("price", "A leather wallet with four pockets, $29.99"),
    ("boilerplate", "Read more about the history of our town"),
    ("boilerplate", "You can put a description of the image here"),
    ("boilerplate", "Lorem ipsum dolor sit amet consectetur"),
    ("address", "A picture from www.example.com of a boat"),
    ("too-short", "Two horses"),
    ("too-long", "word " * 61),
    ("oov", "xkcd qwrt 8f7a9 zzzz bcdf"),
    ("repetition", "hosting hosting hosting hosting best"),
)


@pytest.mark.parametrize("text", GOOD)
def test_sentences_about_images_pass(text: str) -> None:
    assert broken_rule(text, SETTINGS) == ""


@pytest.mark.parametrize(("reason", "text"), BROKEN)
def test_each_rule_has_its_reason(reason: str, text: str) -> None:
    assert broken_rule(text, SETTINGS) == reason


def test_every_rule_is_exercised() -> None:
    assert {reason for reason, _ in BROKEN} == {reason for reason, _ in RULES}


def test_thresholds_come_from_the_recipe() -> None:
    assert broken_rule("Two horses", TextFilter(min_words=2)) == ""
    assert broken_rule("one two three four five", TextFilter(max_words=4)) == "too-long"
    assert broken_rule("house x7 9z3 tree", TextFilter(max_oov=0.4)) == "oov"
    assert broken_rule("house x7 9z3 tree", TextFilter(max_oov=0.6)) == ""


def test_long_texts_cost_little() -> None:
    for text in ("a " * 50_000, "(" * 100_000, "Fig. " * 20_000, "1 2 3 4 " * 20_000):
        assert broken_rule(text, SETTINGS)
