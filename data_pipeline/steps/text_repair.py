"""Mends texts before they are judged: Unicode, white space, sentences."""

import contextlib
import html
import re
import unicodedata

_MOJIBAKE = re.compile("[ÃÂ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€|ï»¿")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffc\ufffd]")
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|No|Nos|Fig|Figs|Pl|Vol|vs|etc|ca|approx|cf|Sr|Jr|fig|figs|pp?)\.$"
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_FIGURE_LABEL = re.compile(
    r"^[\[(]?(?:Illustration\s*[:.-]?\s*)?(?:(?:Fig(?:ure)?s?|Plates?|Pl|Photo(?:graph)?|Image)"
    r"\b\.?\s*(?:\d+(?:\.\d+)*[a-z]?|[IVXLC]+)\b\s*[.:,-]*\s*|\d{1,3}\.\s+(?=[A-Z]))+",
    re.IGNORECASE,
)
_FOLDED = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})


def repair(text: str) -> str:
    """Return `text` with entities, double encoding, composition, odd marks and white space mended.

    Text that was UTF-8 but read as Windows-1252 is turned back where it can be without loss.
    """
    text = html.unescape(text)
    if _MOJIBAKE.search(text):
        with contextlib.suppress(UnicodeEncodeError, UnicodeDecodeError):  # it may but look so
            text = text.encode("cp1252").decode("utf-8")
    text = unicodedata.normalize("NFC", text)
    text = _INVISIBLE.sub("", _TAG.sub(" ", text))
    text = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    return _SPACE.sub(" ", text.translate(_FOLDED)).strip()


def without_figure_label(text: str) -> str:
    """Return a caption without the "Figure 12." that it begins with; a label alone stays."""
    label = _FIGURE_LABEL.match(text)
    if label is None:
        return text
    rest = text[label.end() :]
    if text[0] in "[(" and rest[-1:] in "])":
        rest = rest[:-1]
    return rest if rest and (rest[0].isalpha() or rest[0] in "\"'") else text


def sentences(text: str) -> list[str]:
    """Split a text after its sentences; full stops of abbreviations and initials end none."""
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        piece = text[start : match.end()].strip()
        if _ABBREVIATION.search(text[start : match.start()]):
            continue
        found.append(piece)
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]
