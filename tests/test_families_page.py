"""docs/families.md: each link to a line leads to the line that its name is defined on.

`python -m tests.test_families_page` writes the numbers anew after code has moved.
"""

import re
from pathlib import Path

from pretrain.models.families import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "families.md"
LINK = re.compile(r"\[`(\w+)`\]\(\.\./([\w./-]+)#L(\d+)\)")
MARKS = {"mlm", "contrast", "itm", "moc", "moc-kl", "moc-confidence", "mrfr", "mrfr-smooth-l1"} | {
    "itm-hard", "itc", "bbox", "qa", "attributes"
}  # fmt: skip


def line_of(name: str, path: str) -> int:
    """The line of `path` on which `name` is defined, from 1; the first one for the file's own."""
    if Path(path).stem == name and name not in {"captioning_mask", "mask_spans"}:
        return 1
    definition = re.compile(rf"\s*(class |def )?{name}\b\s*[:=(]")
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        if definition.match(line):
            return number
    raise AssertionError(f"docs/families.md names {name}, and {path} does not define it")


def relinked(page: str) -> str:
    """The page with the number of every link as it should be."""
    return LINK.sub(lambda m: f"[`{m[1]}`](../{m[2]}#L{line_of(m[1], m[2])})", page)


def test_links_lead_to_the_lines_that_they_name() -> None:
    page = PAGE.read_text()
    assert len(LINK.findall(page)) > 40
    moved = [
        f"{old} -> {new}"
        for old, new in zip(page.splitlines(), relinked(page).splitlines(), strict=True)
        if old != new
    ]
    assert not moved, "run `python -m tests.test_families_page`"


def test_other_links_lead_to_files() -> None:
    for path in re.findall(r"\]\(\.\./([\w./-]+)\)", PAGE.read_text()):
        assert (ROOT / path).is_file(), path


def test_the_table_of_objectives_is_what_the_families_answer() -> None:
    rows = re.findall(
        r"^\| ([\w-]+).*?\| (.) \| (.) \| (.) \| (.) \| (.) \|$", PAGE.read_text(), re.M
    )
    table = {name: marks for name, *marks in rows if name in MARKS}
    assert set(table) == MARKS
    names = ("oscar", "imagebert", "vilbert", "lxmert", "xvlm")
    for column, name in enumerate(names):
        knows = set(FAMILIES[name].configuration.of_size("base").objectives())
        assert {objective for objective, marks in table.items() if marks[column] != "−"} == knows


if __name__ == "__main__":
    PAGE.write_text(relinked(PAGE.read_text()))
