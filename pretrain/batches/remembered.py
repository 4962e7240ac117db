"""A function that remembers its last answers, and goes to another process without them."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any


class Remembered:
    """`function`, whose last `most` answers are kept."""

    def __init__(self, function: Callable[..., Any], most: int) -> None:
        self._function, self._most = function, most
        self._cached = lru_cache(most)(function)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function does."""
        return self._cached(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return Remembered, (self._function, self._most)
