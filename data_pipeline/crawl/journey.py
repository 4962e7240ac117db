"""One attempt of a fetch on its way from the first address to the last byte."""

from dataclasses import dataclass

from data_pipeline.crawl.consent import header_signals, merged
from data_pipeline.crawl.errors import Failure
from data_pipeline.crawl.page import Fetched
from data_pipeline.crawl.response_head import ResponseHead


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one kind of fetch goes.

    `cut` takes the first `max_bytes` of a longer body instead of failing.
    """

    ask_robots: bool
    max_bytes: int
    max_redirects: int
    cut: bool = False


@dataclass(slots=True)
class Answer:
    """An answer whose transfer is over: its head, and its body or why there is none."""

    status: int
    head: ResponseHead
    body: bytes = b""
    error: Exception | None = None

    def read(self) -> bytes:
        """Return the body, or raise why there is none."""
        if self.error is not None:
            raise self.error
        return self.body


class Journey:
    """An attempt: where it has been, how long it has taken, what it has brought.

    `spent` are the seconds of its requests; waiting for a turn costs it none.
    """

    def __init__(self, url: str) -> None:
        self.visited: list[str] = []
        self.url = url
        self.answered = False
        self.spent = 0.0
        self.body: bytes | None = None
        self._result = Fetched(url, url)
        self._failure: Failure | None = None

    @property
    def may_retry(self) -> bool:
        """Whether another attempt at once has a chance."""
        return self._failure is not None and self._failure.retry

    def arrive(self, url: str, answer: Answer, agent: str) -> None:
        """Note the answer of one hop."""
        self.visited.append(url)
        self.answered = True
        result, head = self._result, answer.head
        result.final_url, result.status, result.head = url, answer.status, head
        lines = head.lines("x-robots-tag")
        tags = header_signals(lines, agent) if lines else []
        if head.lines("tdm-reservation") == ["1"]:
            tags.append("tdm-reservation")
        if tags:
            result.robots = merged(result.robots, tags)

    def fail(self, failure: Failure) -> None:
        """Note that the attempt has come to nothing."""
        self._failure = failure

    def outcome(self) -> Fetched:
        """Return what the attempt has brought."""
        if self._failure is None:
            self._result.body = self.body
        else:
            self._result.error = self._failure.reason
            self._result.detail = self._failure.detail
            self._result.transient = self._failure.transient
        return self._result
