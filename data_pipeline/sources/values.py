"""Values of other people's files as texts that every later step can hold."""

from typing import Any


def text_of(value: Any) -> str:
    """Return a text for what a file holds: "" for nothing, and no half of a surrogate pair.

    JSON may name code points that UTF-8 has no form for; they become question marks.
    """
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
    elif value is None or isinstance(value, dict | list):
        return ""
    return str(value).replace("\0", " ").encode("utf-8", "replace").decode()
