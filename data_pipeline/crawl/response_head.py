"""The head of an HTTP answer, as it came."""

from collections.abc import Iterable
from functools import cached_property


class ResponseHead:
    """Status and fields of an answer; they are read out when one is asked for.

    Few heads are: of an image's answer nobody asks more than whether it opts out.
    """

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self._text = b"".join(lines).decode("latin-1")
        self._lower = self._text.lower()

    @property
    def status(self) -> int:
        """The status, 0 if there is none."""
        return self._read[0]

    @property
    def fields(self) -> dict[str, list[str]]:
        """The lines of each field by its lower-case name."""
        return self._read[1]

    @property
    def is_whole(self) -> bool:
        """Whether the head came to its end."""
        return self._read[2]

    def lines(self, name: str) -> list[str]:
        """Return the lines of the field with a lower-case name."""
        return self.fields.get(name, []) if name in self._lower else []

    @cached_property
    def _read(self) -> tuple[int, dict[str, list[str]], bool]:
        """Read all: a status line begins anew, as after 100 Continue; trailers are passed over."""
        fields: dict[str, list[str]] = {}
        status = 0
        for text in self._text.split("\n"):
            if text[:5] == "HTTP/":
                number = text.partition(" ")[2].lstrip()[:3]
                status, fields = int(number) if number.isdecimal() else 0, {}
                continue
            name, colon, value = text.partition(":")
            if colon:
                fields.setdefault(name.strip().lower(), []).append(value.strip())
            elif status >= 200 and not text.strip("\r"):
                return status, fields, True
        return status, fields, False


NO_HEAD = ResponseHead()
