"""The truth about candidates: true texts, and the score of decisions against it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trawl.demo.truth import (
    REASONS,
    Row,
    first_reason,
    is_true_text,
    read_truth,
    score_corpus,
    score_decisions,
    truth_lines,
)

PAGE = "http://a.trawl.test/"


def truth(image: str, reason: str = "kept", picture: str = "", **more: Any) -> Row:
    return {
        "page": PAGE,
        "image": PAGE + image,
        "also": [],
        "verdict": "keep" if reason == "kept" else "drop",
        "reason": reason,
        "reasons": [] if reason == "kept" else [reason],
        "picture": picture or image,
        "texts": [f"A red car beside {image}."],
        "copy": "original",
        "seen": True,
        **more,
    }


def decision(image: str, reason: str = "kept", text: str | None = None, page: str = PAGE) -> Row:
    kept = reason == "kept"
    text = text or (f"A red car beside {image}." if kept else None)
    return {"page": page, "url": PAGE + image, "kept": kept, "reason": reason, "text": text}


def test_the_first_reason_is_the_one_that_a_pipeline_meets_first() -> None:
    assert first_reason({"wrong-text", "too-small", "robots"}) == "robots"
    assert first_reason(()) == "kept"
    assert len(set(REASONS)) == len(REASONS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red car  beside\na blue door", True),
        ("A RED CAR beside a blue door!", True),
        ("beside a blue door", True),
        ("Yesterday we met. A red car beside a blue door. It rained.", True),
        ("a blue", False),
        ("a red cart beside a blue door", False),
        ("a green car beside a blue door", False),
        ("", False),
        ("...", False),
    ],
)
def test_a_text_is_true_if_it_is_a_part_of_a_true_one_or_holds_it(
    text: str, expected: bool
) -> None:
    assert is_true_text(text, ["Something else altogether.", "A red car beside a blue door."]) is (
        expected
    )


def test_perfect_decisions_score_one() -> None:
    rows = [truth("1.jpg"), truth("2.jpg"), truth("3.jpg", "too-small")]
    made = [decision("1.jpg"), decision("2.jpg"), decision("3.jpg", "too-small")]
    scores = score_decisions(rows, made)
    assert (scores["precision"], scores["recall"]) == (1.0, 1.0)
    assert scores["by_reason"] == {"kept": {"kept": 2}, "too-small": {"too-small": 1}}
    assert scores["false_keeps"] == {}
    assert scores["missed"] == []


def test_a_second_kept_copy_is_a_false_keep() -> None:
    rows = [truth("1.jpg", picture="p"), truth("2.jpg", picture="p", copy="cropped")]
    scores = score_decisions(rows, [decision("1.jpg"), decision("2.jpg")])
    assert (scores["precision"], scores["recall"]) == (0.5, 1.0)
    assert scores["false_keeps"] == {"near-duplicate": 1}


def test_a_copy_that_lost_was_decided_right() -> None:
    rows = [truth("1.jpg", picture="p"), truth("2.jpg", picture="p", copy="cropped")]
    scores = score_decisions(rows, [decision("1.jpg", "near-duplicate"), decision("2.jpg")])
    assert (scores["precision"], scores["recall"]) == (1.0, 1.0)
    assert scores["by_reason"] == {"kept": {"kept": 1}, "near-duplicate": {"near-duplicate": 1}}


def test_a_picture_lost_as_a_copy_of_nothing_kept_is_missed() -> None:
    rows = [truth("1.jpg")]
    scores = score_decisions(rows, [decision("1.jpg", "near-duplicate")])
    assert (scores["precision"], scores["recall"]) == (0.0, 0.0)
    assert scores["by_reason"] == {"kept": {"near-duplicate": 1}}
    assert scores["missed"] == ["1.jpg"]


def test_a_kept_pair_with_a_wrong_text_is_false_but_its_picture_is_found() -> None:
    scores = score_decisions([truth("1.jpg")], [decision("1.jpg", text="A green tree at night.")])
    assert (scores["precision"], scores["recall"]) == (0.0, 1.0)
    assert scores["examples"][0]["fault"] == "wrong-text"


def test_what_must_be_dropped_is_a_false_keep_under_its_reason() -> None:
    rows = [truth("1.jpg", "wrong-text"), truth("2.jpg", "unnatural")]
    made = [decision("1.jpg"), decision("2.jpg"), decision("unheard-of.jpg")]
    scores = score_decisions(rows, made)
    assert scores["false_keeps"] == {"unknown-candidate": 1, "unnatural": 1, "wrong-text": 1}
    assert scores["by_reason"]["low-score"] == {"kept": 1}


def test_any_of_several_faults_is_a_right_reason() -> None:
    rows = [truth("1.jpg", "placeholder", reasons=["placeholder", "wrong-text"])]
    scores = score_decisions(rows, [decision("1.jpg", "low-score")])
    assert scores["by_reason"] == {"low-score": {"low-score": 1}}


def test_a_smaller_file_of_the_same_element_counts_as_its_candidate() -> None:
    rows = [truth("1.jpg", also=[PAGE + "1-220w.jpg"])]
    scores = score_decisions(rows, [decision("1-220w.jpg", text="A red car beside 1.jpg.")])
    assert scores["precision"] == 1.0


def test_a_page_under_another_address_is_known_by_its_image() -> None:
    scores = score_decisions([truth("1.jpg")], [decision("1.jpg", page=PAGE + "index.html")])
    assert (scores["precision"], scores["recall"]) == (1.0, 1.0)


def test_candidates_without_a_decision_are_counted_unless_nobody_may_see_them() -> None:
    rows = [truth("1.jpg", "spam"), truth("2.jpg", "robots", seen=False)]
    assert score_decisions(rows, [])["by_reason"] == {"spam": {"undecided": 1}}


def test_archives_have_verdicts_of_their_own() -> None:
    gone = {"verdict_warc": "drop", "reason_warc": "not-in-warc"}
    rows = [truth("1.jpg"), truth("2.jpg", "timeout", **gone)]
    made = [decision("1.jpg"), decision("2.jpg", "not-in-warc")]
    by_reason = score_decisions(rows, made, archive=True)["by_reason"]
    assert by_reason["not-in-warc"] == {"not-in-warc": 1}
    assert score_decisions(rows, made)["by_reason"]["timeout"] == {"not-in-warc": 1}


def test_a_corpus_is_scored_from_its_files(tmp_path: Path) -> None:
    (tmp_path / "decisions").mkdir()
    for number, row in enumerate((decision("1.jpg"), decision("2.jpg", "too-small"))):
        table = pa.Table.from_pylist([{**row, "score": 0.5}])
        pq.write_table(table, tmp_path / "decisions" / f"{number:05d}.parquet")
    rows = [truth("1.jpg"), truth("2.jpg", "too-small")]
    assert score_corpus(rows, str(tmp_path))["precision"] == 1.0


def test_truth_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [truth("é.jpg"), truth("2.jpg", "spam")]
    (tmp_path / "truth.jsonl").write_bytes(truth_lines(rows))
    assert read_truth(tmp_path) == rows
