"""The page of a report and its plainest parts: sections and tables."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Section:
    """One titled part of a report; `html` is trusted markup made by this package's functions."""

    title: str
    html: str
    lead: str = ""
    """A sentence in plain text under the title."""


def sections_to_json(sections: Iterable[Section]) -> list[dict[str, str]]:
    """Return `sections` as JSON values, so that one process can hand them to another."""
    return [asdict(section) for section in sections]


def sections_from_json(values: Iterable[dict[str, str]]) -> list[Section]:
    """Return the sections that `sections_to_json` wrote."""
    return [Section(**value) for value in values]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table; numbers are set flush right, text is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    return f"<td>{escape(str(value))}</td>"


def page(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """Return one HTML page that needs no other file and no network."""
    style = files("trawl.report").joinpath("page.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    parts = "".join(
        f'<section id="{_anchor(section.title)}"><h2>{escape(section.title)}</h2>'
        + (f'<p class="lead">{escape(section.lead)}</p>' if section.lead else "")
        + f"{section.html}</section>"
        for section in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f"<nav>{links}</nav></header><main>{parts}</main></body></html>\n"
    )


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
