"""The end of long files: the right lines, and few bytes read."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from trawl import storage, tail


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each read of a part of a file."""
    reads: list[int] = []
    read = storage.read_range

    def counting(uri: str | Path, start: int, stop: int) -> bytes:
        data = read(uri, start, stop)
        reads.append(len(data))
        return data

    monkeypatch.setattr(storage, "read_range", counting)
    return reads


@pytest.mark.parametrize("count", [0, 1, 2, 7, 5000])
@pytest.mark.parametrize("lines", [0, 1, 3, 4000])
@pytest.mark.parametrize("torn", [b"", b'{"torn": 1'])
def test_the_last_lines_are_those_of_the_whole_file(
    tmp_path: Path, count: int, lines: int, torn: bytes
) -> None:
    path = tmp_path / "lines.jsonl"
    content = [json.dumps({"n": n, "fill": "x" * (n % 97)}).encode() for n in range(lines)]
    path.write_bytes(b"".join(line + b"\n" for line in content) + torn)
    assert tail.last_lines(path, count) == content[max(0, lines - count) :]
    assert [line["n"] for line in tail.parsed(tail.last_lines(path, count))] == list(
        range(max(0, lines - count), lines)
    )


def test_lines_longer_than_a_block_are_read_whole_and_no_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"a" * 200_000 + b"\n" + b"b" * 300_000 + b"\n")
    assert [len(line) for line in tail.last_lines(path, 1)] == [300_000]
    assert tail.last_lines(tmp_path / "none", 3) == tail.spread_lines(tmp_path / "none", 3) == []
    assert list(tail.parsed([b"no JSON", b"[1]", b'{"a": 1}'])) == [{"a": 1}]


def test_of_a_million_lines_few_bytes_are_read(tmp_path: Path, counted: list[int]) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("wb") as file:
        for thousand in range(1000):
            numbers = range(thousand * 1000, thousand * 1000 + 1000)
            file.write(b"".join(b'{"step": %d, "loss": 1.25}\n' % n for n in numbers))
    last = list(tail.parsed(tail.last_lines(path, 50)))
    assert [line["step"] for line in last] == list(range(999_950, 1_000_000))
    assert sum(counted) <= 64 << 10
    counted.clear()
    spread = [line["step"] for line in tail.parsed(tail.spread_lines(path, 300))]
    assert sum(counted) <= 300 * 4096
    assert spread[0] == 0
    assert len(spread) == 300
    gaps = [after - before for before, after in pairwise(spread)]
    assert min(gaps) > 2500
    assert max(gaps) < 4500


@pytest.mark.parametrize("size", [10, 5000])
def test_spread_lines_are_whole_lines_of_the_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "lines"
    content = [b"%d " % n + b"y" * size for n in range(1000)]
    path.write_bytes(b"".join(line + b"\n" for line in content) + b"torn")
    found = tail.spread_lines(path, 40)
    assert 20 <= len(found) <= 40
    assert found[0] == content[0]
    assert set(found) <= set(content)
