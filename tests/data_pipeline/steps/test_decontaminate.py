"""Images of evaluation sets stay out: by their bytes, and by looks within the recipe's bits."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.selecting import _touched
from data_pipeline.steps.decontaminate import any_near, any_near_plainly, load_lists
from tests.data_pipeline.build_here import build_here
from tests.data_pipeline.sources.pictures import write_picture
from trawl import chance
from trawl.errors import RequestError


@pytest.mark.parametrize("bits", range(13))
def test_the_search_agrees_with_its_plain_twin(bits: int) -> None:
    random = chance.generator("evaluation-sets", bits)
    listed = [int(value) for value in random.integers(0, 2**64, 40, dtype=np.uint64)]
    values = [int(value) for value in random.integers(0, 2**64, 10, dtype=np.uint64)]
    for number in range(120):
        flipped = random.choice(64, size=number % 16, replace=False)
        values.append(listed[number % 40] ^ sum(1 << int(bit) for bit in flipped))
    found = any_near(values, listed, bits).tolist()
    assert found == any_near_plainly(values, listed, bits).tolist()
    assert any(found)
    assert any_near(values, [], bits).sum() == len(any_near([], listed, bits)) == 0


def test_lists_hold_both_kinds_of_hashes(tmp_path: Path) -> None:
    one, two = tmp_path / "coco.txt", tmp_path / "flickr.txt"
    one.write_text(f"# karpathy test\n\n{'AB' * 32}  COCO_val2014_1.jpg\n00000000000000ff 2.jpg\n")
    two.write_text("ff00000000000000\r\n")
    sets = load_lists((str(one), str(two)))
    assert sets.sha256 == {"ab" * 32}
    assert sets.phash == {0xFF, 0xFF << 56}
    images = [("ab" * 32, ""), ("cd" * 32, "000000000000000f"), ("ef" * 32, "0f0f0f0f0f0f0f0f")]
    assert sets.matches(images, 4) == {"ab" * 32, "cd" * 32}
    assert sets.matches(images, 3) == {"ab" * 32}
    assert sets.matches([], 6) == set()


@pytest.mark.parametrize("line", ["abc", "zz" * 8, "ab" * 33, "x.jpg " + "ab" * 8])
def test_a_line_that_is_no_hash_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "list.txt").write_text(f"# list\n{line}\n")
    with pytest.raises(RequestError, match=r"aggregate\.decontaminate: .*list\.txt: line 2"):
        load_lists((str(tmp_path / "list.txt"),))


def _set_of(folder: Path) -> dict[str, object]:
    """Write five pictures: the second is the first, smaller; return a source of them."""
    for number in (0, 2, 3, 4):
        write_picture(folder / "images" / f"{number}.jpg", number, 640, 512)
    first = cv2.imread(str(folder / "images" / "0.jpg"))
    cv2.imwrite(str(folder / "images" / "1.jpg"), cv2.resize(first, (400, 320)))
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(5)]
    texts = [{"image_id": number, "caption": f"Picture {number}"} for number in range(5)]
    place = folder / "captions.json"
    place.write_text(json.dumps({"images": images, "annotations": texts}))
    return {"kind": "captions", "captions": str(place), "images": str(folder / "images")}


def test_a_build_leaves_evaluation_sets_out(tmp_path: Path) -> None:
    source = {"collect": {"source": _set_of(tmp_path), "partitions": 2}}
    build_here(tmp_path / "all", source)
    before = {row["url"]: row for row in read_decisions(str(tmp_path / "all"))}
    assert {row["reason"] for row in before.values()} == {"kept"}
    held_out = tmp_path / "evaluation.txt"
    held_out.write_text(f"{before['0.jpg']['phash']}\n{before['3.jpg']['sha256']}\n")
    build_here(tmp_path / "clean", {**source, "aggregate": {"decontaminate": [str(held_out)]}})
    after = {row["url"]: row for row in read_decisions(str(tmp_path / "clean"))}
    assert {name: row["reason"] for name, row in after.items()} == {
        "0.jpg": "evaluation-set",
        "1.jpg": "evaluation-set",
        "2.jpg": "kept",
        "3.jpg": "evaluation-set",
        "4.jpg": "kept",
    }
    assert after["1.jpg"]["text"] == "Picture 1"


def test_the_content_of_the_lists_is_in_the_hash(tmp_path: Path) -> None:
    def digest(*places: Path) -> str:
        content = {"collect": {"source": {"kind": "warc", "uris": ["x"]}}, "name": "test"}
        lists = [str(place) for place in places]
        recipe = {**content, "aggregate": {"decontaminate": lists}}
        return CorpusRecipe.model_validate(recipe).digest()

    one, same, other = (tmp_path / name for name in ("one.txt", "same.txt", "other.txt"))
    one.write_text("00000000000000ff\n")
    same.write_text("00000000000000ff\n")
    other.write_text("00000000000000fe\n")
    assert digest(one) == digest(same) != digest()
    assert digest(one) != digest(other)
    assert digest(one, other) == digest(other, same)
    with pytest.raises(RequestError, match=r"aggregate\.decontaminate: .*none\.txt"):
        digest(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        ({}, {"decontaminate": ["a.txt"]}, {"score"}),
        ({"decontaminate": ["a.txt"]}, {}, {"score"}),
        (
            {"decontaminate": ["a.txt"]},
            {"decontaminate": ["a.txt"], "near_duplicate_bits": 3},
            {"score"},
        ),
        ({}, {"near_duplicate_bits": 3}, set()),
    ],
)
def test_a_selection_matches_again_where_it_must(
    before: dict[str, object], after: dict[str, object], again: set[str]
) -> None:
    content = {"collect": {"source": {"kind": "warc", "uris": ["x"]}}, "name": "test"}
    known, asked = (
        CorpusRecipe.model_validate({**content, "aggregate": part}) for part in (before, after)
    )
    assert _touched(known, asked) == again


def test_many_hashes_cost_little() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64).tolist()
    assert any_near(values, values[:5_000], 6)[:5_000].all()
