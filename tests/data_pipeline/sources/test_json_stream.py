"""Large JSON element by element: the same values as json.load, in memory for one of them."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.sources import json_stream
from trawl.errors import RequestError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "file.json"


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), VALUES), st.lists(VALUES), st.sampled_from([None, 1]), st.data())
def test_elements_are_those_of_the_plain_reader(
    place: Path, others: dict[str, Any], listed: list[Any], indent: int | None, data: st.DataObject
) -> None:
    content = {**others, "wanted": listed}
    names = data.draw(st.permutations(list(content)))
    content = {name: content[name] for name in names}
    place.write_text(json.dumps(content, indent=indent, ensure_ascii=False), "utf-8", "replace")
    content = json.loads(place.read_text("utf-8"))
    json_stream._PIECE = data.draw(st.sampled_from([1, 7, 1 << 20]))
    try:
        assert list(json_stream.elements(str(place), "wanted")) == content["wanted"]
        assert dict(json_stream.members(str(place))) == content
        for name, value in content.items():
            assert json_stream.value(str(place), name) == value
    finally:
        json_stream._PIECE = 1 << 20


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2", '{"wanted": 3}', '{"wanted": [1 2]}', '{"a": [}', "nonsense", '{"a": [1]}']
    + ['{"wanted": [' + "[" * 100_000],
)
def test_what_is_not_that_json_is_named(tmp_path: Path, text: str) -> None:
    place = tmp_path / "broken.json"
    place.write_text(text)
    with pytest.raises(RequestError, match=r"broken\.json"):
        list(json_stream.elements(str(place), "wanted"))


def test_a_long_list_needs_no_memory_of_its_length(tmp_path: Path) -> None:
    place = tmp_path / "long.json"
    entry = {"image_id": 1, "phrase": "a dog " * 20}
    with place.open("w") as file:
        file.write('{"skipped": [')
        file.write(",".join(json.dumps(entry) for _ in range(30_000)))
        file.write('], "images": [')
        file.write(",".join(json.dumps(entry) for _ in range(30_000)))
        file.write("]}")
    tracemalloc.start()
    count = sum(1 for _ in json_stream.elements(str(place), "images"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 30_000
    assert peak < place.stat().st_size / 2
