"""Pictures that a page shows as backgrounds, by style attributes and by simple rules of its sheets.

Of a sheet inside the page those rules count whose selector is one element by class or id, such as
`.hero`, `div#top` or `.hero::before`: they need no walk up the tree, which could be made endless.
All rules that fit an element count, since which of them wins depends on the screen too.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

MAX_SHEET = 256 << 10
"""How much of one sheet is read, in characters."""

MAX_RULES = 40
"""Rules with pictures that are taken from all sheets of a page."""

STYLED = '[style*="url(" i]'
"""Selects the elements whose style attribute may name a picture."""

_MAX_STYLE = 20_000
# What is left open is taken as closed by the end, so that no text is gone through twice.
_QUOTED = r"\"(?:[^\"\\]++|\\.)*+\"?+|'(?:[^'\\]++|\\.)*+'?+|\\."
_INSIDE = rf"(?:[^\\\"'()]++|{_QUOTED}|\([^()]*+\)?+)*+"
_VALUE = re.compile(
    rf"(?<![\w-])background(?:-image)?\s*+:((?:[^\\;\"'(){{}}]++|{_QUOTED}|\({_INSIDE}\)?+)*+)",
    re.IGNORECASE | re.DOTALL,
)
_LAYER = re.compile(rf"image-set\(({_INSIDE})|url\({_INSIDE}", re.IGNORECASE | re.DOTALL)
_URL = re.compile(
    r"url\(\s*+(?:\"((?:[^\"\\]++|\\.)*+)\"?+|'((?:[^'\\]++|\\.)*+)'?+|((?:[^\\\s\"'()]++|\\.)*+))"
    r"\s*+\)?+(?:\s*+([0-9.]{1,8})x)?",
    re.IGNORECASE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|(.))", re.DOTALL)
_SELECTOR_END = re.compile(r"[{};/]")
_PLAIN = re.compile(
    r"((?:[a-zA-Z][a-zA-Z0-9-]*+)?(?:[.#][a-zA-Z_-][\w-]*+){1,4})(?:::?(?:before|after))?", re.ASCII
)

Picture = list[str]
"""Addresses of one picture as written, the densest first."""


def pictures(declarations: str) -> list[Picture]:
    """Return the pictures that CSS declarations show as backgrounds, the uppermost first."""
    found: list[Picture] = []
    for value in _VALUE.finditer(declarations[:_MAX_STYLE]):
        for layer in _LAYER.finditer(value[1]):
            urls = _URL.finditer(layer[1] or layer[0])
            sizes = [
                (_density(url[4]), _unescaped(url[1] or url[2] or url[3] or "")) for url in urls
            ]
            sizes.sort(key=lambda size: -size[0])
            if sizes:
                found.append([address for _, address in sizes])
    return found


def _density(text: str | None) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 1.0


def _unescaped(text: str) -> str:
    """Undo the backslashes of a CSS string."""

    def plain(match: re.Match[str]) -> str:
        code = int(match[1], 16) if match[1] else 0
        return match[2] or (chr(code) if 0 < code < 0xD800 or 0xDFFF < code < 0x110000 else "")

    return _ESCAPE.sub(plain, text) if "\\" in text else text


class Backgrounds:
    """The rules of a page's sheets that show pictures, and what they make of its elements."""

    def __init__(self) -> None:
        self._rules: list[tuple[str, list[Picture]]] = []
        self._matched: dict[int, list[Picture]] = {}

    def add_sheet(self, css: str) -> None:
        """Take the rules of one style element."""
        css = css[:MAX_SHEET]
        end = 0
        while (position := css.find("url(", end)) >= 0 and len(self._rules) < MAX_RULES:
            start = css.rfind("{", end, position)
            before = css[end : max(start, end)]
            end = css.find("}", position) + 1 or len(css)
            if start >= 0:
                self._add_rule(_SELECTOR_END.split(before)[-1], css[start + 1 : end].rstrip("}"))

    def _add_rule(self, selectors: str, declarations: str) -> None:
        plain = [
            match for text in selectors.split(",") if (match := _PLAIN.fullmatch(text.strip()))
        ]
        # Long addresses of fonts, which are data, take a while to read.
        if plain and (shown := pictures(declarations)):
            left = MAX_RULES - len(self._rules)
            self._rules += [(match[1], shown) for match in plain[:left]]

    @property
    def has_rules(self) -> bool:
        """Whether any sheet has shown a picture yet."""
        return bool(self._rules)

    def selector(self, tree: LexborHTMLParser) -> str:
        """Return what selects the elements of `tree` that may show a picture."""
        self._matched = {}
        for selector, shown in self._rules:
            for node in tree.css(selector):
                self._matched.setdefault(node.mem_id, []).extend(shown)
        return ",".join((STYLED, *(selector for selector, _ in self._rules)))

    def of(self, node: LexborNode) -> list[Picture]:
        """Return the pictures behind an element of the tree that was asked for last."""
        style = node.attributes.get("style") or ""
        own = pictures(style) if "(" in style else []
        return own + self._matched.get(node.mem_id, [])
