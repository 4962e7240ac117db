"""Reports are one file, escape what they are given, and draw what they should."""

import re

from trawl.report import (
    Box,
    Section,
    figure,
    funnel,
    gallery,
    histogram,
    line_chart,
    page,
    sections_from_json,
    sections_to_json,
    table,
)

HOSTILE = '<script>alert("x")</script>'


def test_a_page_needs_no_other_file() -> None:
    html = page("Report", [Section("One & two", table(["a"], [[1]]), "lead")], "about")
    assert not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert 'href="#one-two"' in html
    assert 'id="one-two"' in html


def test_text_from_the_web_is_escaped_everywhere() -> None:
    parts = [
        table([HOSTILE], [[HOSTILE]]),
        figure(b"jpeg", HOSTILE, HOSTILE, [Box(0, 0, 1, 1, HOSTILE)]),
        funnel([(HOSTILE, 3, HOSTILE)]),
        line_chart({HOSTILE: [(0, 1)]}, HOSTILE, HOSTILE),
        histogram([1.0, 2.0], HOSTILE),
    ]
    assert HOSTILE not in page(HOSTILE, [Section(HOSTILE, "".join(parts), HOSTILE)], HOSTILE)


def test_boxes_lie_over_the_picture_as_shares_of_it() -> None:
    html = gallery([figure(b"jpeg", "a cat", boxes=[Box(0.25, 0.5, 0.75, 1.0, "cat")])])
    assert '<rect x="250.0" y="500.0" width="500.0" height="500.0"' in html
    assert "data:image/jpeg;base64,anBlZw==" in html


def test_charts_survive_empty_and_endless_values() -> None:
    assert "No points" in line_chart({"a": []}, "step", "loss")
    assert "No values" in histogram([float("nan")], "x")
    assert "nan" not in line_chart({"a": [(0, float("nan")), (1, 2.0)]}, "step", "loss")
    assert histogram([3.0, 3.0, 3.0], "x").count("<rect") == 24


def test_sections_cross_a_process_boundary_as_json() -> None:
    sections = [Section("a", "<b>x</b>", "lead")]
    assert sections_from_json(sections_to_json(sections)) == sections
