"""Each text rule, with cases on both sides of its border."""

from pathlib import Path

import pytest

from data_pipeline.recipe import TextFilter
from data_pipeline.steps.text_rules import RULES, broken_rule
from trawl.errors import RequestError

SETTINGS = TextFilter()

GOOD = (
    "A red cup next to a blue drum.",
    "Two dogs are playing on the beach in the evening sun",
    "The tower of St. Mary's church, seen from the north-west",
    "Three green bottles, a lamp, a chair, a clock and a red book on the shelf",
    "A TV set in front of a brick wall",
    "Women in traditional dress at a market in Guatemala, 1998",
    "An image of a giraffe that looks over a fence",
    "A market in May 2014",
    "NASA and ESA engineers at the HST",
    "Great tits and blue tits on a branch",
    "Milford Sound seen from a Wankel engined boat, Plate XXX",
    "The impressions were left by horny scales, Qwiic hookup guide",
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
    ("profanity", "A camgirl waits for your call"),
    ("date", "March 3rd, 2014"),
    ("date", "Saturday 12.05.2019 at 10:30 am"),
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
    assert {reason for reason, _ in BROKEN} | {"casing"} == {reason for reason, _ in RULES}


def test_capitals_are_taken_unless_the_recipe_says_otherwise() -> None:
    text = "A COHO SALMON JUMPING THE RAPIDS OF THE RIVER"
    assert broken_rule(text, SETTINGS) == ""
    assert broken_rule(text, TextFilter(max_capitals=0.8)) == "casing"
    assert broken_rule("NASA and ESA engineers", TextFilter(max_capitals=0.8)) == ""


def test_thresholds_come_from_the_recipe() -> None:
    assert broken_rule("Two horses", TextFilter(min_words=2)) == ""
    assert broken_rule("one two three four five", TextFilter(max_words=4)) == "too-long"
    assert broken_rule("house x7 9z3 tree", TextFilter(max_oov=0.4)) == "oov"
    assert broken_rule("house x7 9z3 tree", TextFilter(max_oov=0.6)) == ""


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("max_hits", {"price": 1}, "A leather wallet with four pockets, $29.99"),
        ("max_hits", {"spam": 1}, "A cheap hotel near the beach"),
        ("max_hits", {"boilerplate": 1}, "A copyright sign on a wall"),
        ("max_hits", {"address": 1}, "A van with www.example.com on it"),
        ("max_hits", {"file_name": 1}, "The image mill.jpg of a mill"),
        ("max_hits", {"profanity": 1}, "A camgirl waits for your call"),
        ("profanity", None, "A camgirl waits for your call"),
        ("max_list_parts", 6, "shoes, boots, sandals, sneakers, heels, slippers"),
        ("max_placeholder", 1.0, "click to enlarge image"),
        ("max_dates", 1.0, "Saturday 12.05.2019 at 10:30 am"),
    ],
)
def test_every_threshold_can_be_moved(key: str, value: object, text: str) -> None:
    assert broken_rule(text, SETTINGS)
    assert broken_rule(text, TextFilter.model_validate({key: value})) == ""


def test_the_list_of_profanity_is_a_file(tmp_path: Path) -> None:
    place = tmp_path / "words.txt"
    place.write_text("# ours\nrubber  duck\nboat*\n")
    ours = TextFilter(profanity=str(place))
    assert broken_rule("A rubber duck in the bath", ours) == "profanity"
    assert broken_rule("Two BOATS on a lake", ours) == "profanity"
    assert broken_rule("A rubber ducky in the bath", ours) == ""
    assert broken_rule("A camgirl waits for your call", ours) == ""
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for name in ("empty.txt", "none.txt"):
        with pytest.raises(RequestError, match=name):
            broken_rule("A boat on a lake", TextFilter(profanity=str(tmp_path / name)))


def test_long_texts_cost_little() -> None:
    for text in ("a " * 50_000, "(" * 100_000, "Fig. " * 20_000, "1 2 3 4 " * 20_000):
        assert broken_rule(text, SETTINGS)
