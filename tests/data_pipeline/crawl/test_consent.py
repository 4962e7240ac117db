"""Opt-out signals in headers and metas."""

import pytest

from data_pipeline.crawl.consent import header_signals, merged, meta_signals, stored_signals
from data_pipeline.crawl.politeness import retry_after_seconds


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["noai"], ["noai"]),
        (["NoAI, NoImageAI"], ["noai", "noimageai"]),
        (["none"], ["noindex", "nofollow"]),
        (["all, max-image-preview: large"], []),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], ["noai"]),
        (["unavailable_after: Wed, 25 Jun 2030 15:00:00 GMT, noimageai"], ["noimageai"]),
        (["max-snippet: 20, noai"], ["noai"]),
        (["otherbot: noai, noindex"], []),
        (["otherbot: noindex, trawl: noai"], ["noai"]),
        (["Trawl: noindex, nofollow"], ["noindex", "nofollow"]),
        (["*: noai"], ["noai"]),
        (["otherbot: unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], []),
        (["otherbot: noindex", "noimageindex"], ["noimageindex"]),
        (["", ",,:", "::::"], []),
    ],
)
def test_headers(lines: list[str], expected: list[str]) -> None:
    assert header_signals(lines, "Trawl") == expected


def test_metas() -> None:
    metas = [
        ("ROBOTS", "NoIndex, noai"),
        ("trawl", "noimageai"),
        ("googlebot", "nofollow"),
        ("tdm-reservation", "1"),
    ]
    assert meta_signals(metas, "Trawl") == ["noindex", "noai", "noimageai", "tdm-reservation"]
    assert meta_signals([("tdm-reservation", "0")], "Trawl") == []
    assert merged(["noai"], ["noindex", "noai"]) == ["noindex", "noai"]


def test_stored_headers() -> None:
    headers = {"x-robots-tag": "noai, noindex", "tdm-reservation": "1"}
    assert stored_signals(headers, "Trawl") == ["noindex", "noai", "tdm-reservation"]
    assert stored_signals({}, "Trawl") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("7", 7.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("9" * 5000, 999999999.0),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert retry_after_seconds(value, 10.0) == expected
