"""Replaces names and numbers in captions by more general words, as Conceptual Captions does.

"Harrison Ford and Calista Flockhart attend the premiere" becomes "actors attend the premiere"
(Sharma et al. 2018, "Conceptual Captions", section 3.1: named entities become hypernyms, numbers
are dropped or generalised, equal words that are joined become a plural). There a knowledge base
tells the hypernyms; here a table does that the recipe gives.

The table is text, `PHRASE<TAB>HYPERNYM` a line, `#` before comments. A phrase with capital letters
stands for itself alone, one without for any case. Two phrases are special: `<number>` is any number
in digits, `<name>` any other run of capitalised words that does not merely begin a sentence. An
empty hypernym removes what it stands for.
"""

import functools
import re
from dataclasses import dataclass

from trawl import storage
from trawl.errors import RequestError

NUMBER, NAME = "<number>", "<name>"
_TOKEN = re.compile(r"[^\W_]+(?:[.'’,-][^\W_]+)*|\s+|[^\w\s]|_")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:st|nd|rd|th|s)?")
_POSSESSIVE = re.compile(r"['’]s?$")
_JOINTS = frozenset((",", "and", "&", "or"))
_SPACES = re.compile(r"\s+")
_LOOSE = re.compile(r"\s+([,.;:!?)])|([(])\s+|\(\s*\)")
_IRREGULAR = {"person": "people", "man": "men", "woman": "women", "child": "children"}


@dataclass(frozen=True)
class Table:
    """Hypernyms by phrase: as written where it has capitals, else in lower case."""

    exact: dict[tuple[str, ...], str]
    folded: dict[tuple[str, ...], str]
    number: str | None
    name: str | None
    longest: int


@functools.lru_cache(maxsize=4)
def load_table(place: str) -> Table:
    """Read the table at `place`; RequestError names the first line that is none of its form."""
    exact: dict[tuple[str, ...], str] = {}
    folded: dict[tuple[str, ...], str] = {}
    special: dict[str, str] = {}
    for number, line in enumerate(storage.read_text(place).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        phrase, mark, hypernym = line.partition("\t")
        words = tuple(phrase.split())
        if not mark or not words or "\t" in hypernym:
            raise RequestError(
                f"text_filter.hypernyms: {place}: line {number}: write PHRASE<TAB>HYPERNYM"
            )
        hypernym = " ".join(hypernym.split())
        if phrase.strip() in (NUMBER, NAME):
            special[phrase.strip()] = hypernym
        elif phrase == phrase.lower():
            folded[words] = hypernym
        else:
            exact[words] = hypernym
    longest = max(map(len, (*exact, *folded)), default=0)
    return Table(exact, folded, special.get(NUMBER), special.get(NAME), longest)


@dataclass
class _Piece:
    """A word, mark or space of a text; `hypernym` says that it stands for something else."""

    text: str
    hypernym: bool = False
    several: bool = False


def generalise(text: str, table: Table) -> str:
    """Return `text` with what the table knows replaced."""
    tokens = _TOKEN.findall(text)
    pieces: list[_Piece] = []
    place = 0
    while place < len(tokens):
        length, hypernym = _match(tokens, place, table)
        if hypernym is None:
            pieces.append(_Piece(tokens[place]))
            place += 1
            continue
        ending = _POSSESSIVE.search(tokens[place + length - 1])
        pieces.append(_Piece(hypernym + (ending[0] if ending and hypernym else ""), bool(hypernym)))
        place += length
    joined = "".join(piece.text for piece in _plurals(pieces))
    return _SPACES.sub(" ", _LOOSE.sub(r"\1\2", joined)).strip(" ,;:-")


def _match(tokens: list[str], place: int, table: Table) -> tuple[int, str | None]:
    """Return how many tokens from `place` on have a hypernym together, and which; (1, None): none.

    The longest phrase of the table comes first, then numbers, then names.
    """
    if not tokens[place][0].isalnum():
        return 1, None
    for count in range(table.longest, 0, -1):
        span = tokens[place : place + 2 * count - 1]
        words = span[::2]
        if len(words) < count or any(not space.isspace() for space in span[1::2]):
            continue
        bare = (*words[:-1], _POSSESSIVE.sub("", words[-1]))
        found = table.exact.get(bare)
        if found is None:
            found = table.folded.get(tuple(word.lower() for word in bare))
        if found is not None:
            return len(span), found
    if table.number is not None and _NUMBER.fullmatch(tokens[place]):
        return 1, table.number
    length = _name_length(tokens, place) if table.name is not None else 0
    return (length, table.name) if length else (1, None)


def _name_length(tokens: list[str], place: int) -> int:
    """Return how many tokens make up a name that begins at `place`, 0 if none does.

    One capitalised word at the beginning of a sentence is no name; two in a row are.
    """
    end = place
    while end < len(tokens) and _is_capitalised(tokens[end]):
        end += 2 if end + 1 < len(tokens) and tokens[end + 1].isspace() else 1
        if not tokens[end - 1].isspace():
            break
    length = end - place
    if length and tokens[end - 1].isspace():
        length -= 1
    before = next((token for token in reversed(tokens[:place]) if not token.isspace()), ".")
    return 0 if length < 2 and before in ".!?" else length


def _is_capitalised(token: str) -> bool:
    return token[0].isupper() and any(letter.islower() for letter in token)


def _plurals(pieces: list[_Piece]) -> list[_Piece]:
    """Make one plural of equal hypernyms that are joined: "actor, actor and actor", "actors"."""
    kept: list[_Piece] = []
    joints: list[_Piece] = []
    last: _Piece | None = None
    for piece in pieces:
        if piece.hypernym:
            if last is not None and joints and piece.text == last.text:
                last.several, joints = True, []
            else:
                kept += [*joints, piece]
                last, joints = piece, []
        elif last is not None and (piece.text.isspace() or piece.text.lower() in _JOINTS):
            joints.append(piece)
        else:
            kept += [*joints, piece]
            last, joints = None, []
    for piece in kept:
        if piece.several:
            piece.text = plural(piece.text)
    return kept + joints


def plural(word: str) -> str:
    """Return the plural of an English noun; of several words that of the last."""
    head, space, last = word.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif re.search(r"(?:s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return head + space + last
