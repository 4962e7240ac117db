"""Reads large JSON files element by element, in memory for one element.

Data sets are published as one JSON value of up to gigabytes: a list of images, or an object with a
few long lists. `json.load` would need ten times the file in memory; here each element of the list
or object that is asked for is decoded on its own.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from trawl import storage
from trawl.errors import RequestError

MAX_ELEMENT = 64 << 20
"""Longest element that is read, in characters."""

_PIECE = 1 << 20
_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder()


def elements(uri: str, key: str | None = None) -> Iterator[Any]:
    """Yield the elements of the list at `uri`, or of the list under `key` of the object there.

    RequestError names the file if it is no JSON, breaks off, or has no such list.
    """
    with storage.open_read(uri) as file:
        text = _Text(file, uri)
        if key is None:
            yield from _list(text)
            return
        for name in _names(text):
            if name == key:
                yield from _list(text)
                return
            _skip(text)
    raise RequestError(f"{uri}: no list `{key}`; name the right file")


def members(uri: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the object at `uri`."""
    with storage.open_read(uri) as file:
        text = _Text(file, uri)
        for name in _names(text):
            yield name, text.value()


def value(uri: str, key: str) -> Any:
    """Return the value under `key` of the object at `uri`, None if it has none."""
    with storage.open_read(uri) as file:
        text = _Text(file, uri)
        for name in _names(text):
            if name == key:
                return text.value()
            _skip(text)
    return None


def _list(text: "_Text") -> Iterator[Any]:
    """Yield the elements of the list that comes next."""
    text.expect("[")
    if text.take("]"):
        return
    while True:
        yield text.value()
        if text.take("]"):
            return
        text.expect(",")


def _names(text: "_Text") -> Iterator[str]:
    """Yield the names of the object that comes next; its reader takes each value in between."""
    text.expect("{")
    if text.take("}"):
        return
    while True:
        name = text.value()
        if not isinstance(name, str):
            text.fail("a name")
        text.expect(":")
        yield name
        if text.take("}"):
            return
        text.expect(",")


def _skip(text: "_Text") -> None:
    """Pass over the next value; a long list or object is passed over by its elements."""
    start = text.next()
    if start == "[":
        for _ in _list(text):
            pass
    elif start == "{":
        for _ in _names(text):
            text.value()
    else:
        text.value()


class _Text:
    """The text of a file from where reading stands, of which a window is in memory."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file, self._uri = file, uri
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._window = ""
        self._at = 0
        self._ended = False

    def _more(self, size: int = _PIECE) -> bool:
        """Read on; False at the end of the file."""
        if self._ended:
            return False
        data = self._file.read(size)
        self._ended = not data
        self._window = self._window[self._at :] + self._decoder.decode(data, final=self._ended)
        self._at = 0
        return True

    def next(self) -> str:
        """Return the next letter that is no white space, "" at the end, without taking it."""
        while True:
            while self._at < len(self._window):
                if self._window[self._at] not in _SPACE:
                    return self._window[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, letter: str) -> bool:
        """Take the next letter if it is `letter`."""
        found = self.next() == letter
        self._at += found
        return found

    def expect(self, letter: str) -> None:
        """Take the next letter; RequestError if it is another."""
        if not self.take(letter):
            self.fail(repr(letter))

    def value(self) -> Any:
        """Take the next value."""
        self.next()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._window, self._at)
            except RecursionError:
                self.fail("a value of less depth")
            except json.JSONDecodeError:
                found, end = None, -1
            # A number at the end of the window may go on behind it.
            if end >= 0 and (end < len(self._window) or self._ended):
                self._at = end
                return found
            length = len(self._window) - self._at
            if length > MAX_ELEMENT:
                self.fail(f"an element of at most {MAX_ELEMENT} characters")
            if not self._more(max(_PIECE, length)):
                self.fail("a value")

    def fail(self, expected: str) -> None:
        """Raise RequestError that shows what stands where something else was expected."""
        shown = self._window[self._at : self._at + 40] or "the end of the file"
        raise RequestError(
            f"{self._uri}: not the JSON that was expected: {shown!r} instead of {expected}; "
            "mend the file, or name its format"
        )
