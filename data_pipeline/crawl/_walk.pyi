"""The extension that `native/` makes."""

from typing import Any

from data_pipeline.crawl.candidates import Gatherer
from data_pipeline.crawl.head import Head
from data_pipeline.crawl.page import Candidate

def prepare(library: str, tag_sets: dict[str, frozenset[str]], twins: dict[str, Any]) -> None: ...
def walk(root: int, head: Head, gatherer: Gatherer, links: dict[str, None] | None) -> bool: ...
def candidates(pictures: dict[str, Any], page: str) -> list[Candidate]: ...
