"""What is kept of an image that came: as it is, or made smaller."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from data_pipeline.images import shrunk
from data_pipeline.recipe import CorpusRecipe
from data_pipeline.steps.image_store import Arrival, ImageStore
from data_pipeline.takedowns import Takedowns, hashed
from trawl import chance


def picture(width: int, height: int) -> bytes:
    pixels = chance.generator("store", width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def recipe(**download: object) -> CorpusRecipe:
    source = {"kind": "table", "format": "cc12m", "uris": ["x"]}
    return CorpusRecipe.model_validate(
        {"name": "t", "collect": {"source": source}, "download": download}
    )


def test_only_larger_images_are_made_smaller() -> None:
    small, large = picture(300, 320), picture(400, 800)
    file = io.BytesIO()
    store = ImageStore(file, recipe(max_side=320), Takedowns(set()))
    store.add("http://h.test/small.png", Arrival(small))
    store.add("http://h.test/large.png", Arrival(large))
    kept = {row["url"].rpartition("/")[2]: row for row in store.rows()}
    expected = {"small.png": (small, "png", 300, 320), "large.png": (b"", "jpeg", 160, 320)}
    expected["large.png"] = (shrunk(large, 320, 10**8), *expected["large.png"][1:])
    for name, (data, kind, width, height) in expected.items():
        row = kept[name]
        start = row["offset"]
        assert file.getvalue()[start : start + row["size"]] == data
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["kind"], row["width"], row["height"]) == (kind, width, height)


def test_arrivals_stored_together_are_stored_as_one_by_one() -> None:
    small, large = picture(300, 320), picture(400, 800)
    bodies = [small, large, small, b"no image", b"\xff\xd8\xff damaged"]
    taken = Takedowns({hashed("sha256", hashlib.sha256(picture(200, 320)).hexdigest())})
    found = []
    for together in (True, False):
        file = io.BytesIO()
        store = ImageStore(file, recipe(max_side=320), taken)
        arrivals = [(Arrival(body), [f"{n}", f"{n} again"]) for n, body in enumerate(bodies)]
        arrivals.append((Arrival(picture(200, 320)), ["taken down"]))
        arrivals.append((Arrival(None, "timeout"), ["too late"]))
        arrivals.append((Arrival(large, robots=("noai",)), ["opted out"]))
        if together:
            store.add_all(arrivals)
        else:
            for arrival, urls in arrivals:
                for url in urls:
                    store.add(url, arrival)
        found.append((store.rows(), store.counts(), file.getvalue()))
    assert found[0] == found[1]
    assert found[0][1]["images"] == 6


@pytest.mark.parametrize("which", ["as it came", "as it was kept"])
def test_a_takedown_by_either_hash_holds(which: str) -> None:
    large = picture(400, 800)
    data = large if which == "as it came" else shrunk(large, 320, 10**8)
    taken = Takedowns({hashed("sha256", hashlib.sha256(data).hexdigest())})
    store = ImageStore(io.BytesIO(), recipe(max_side=320), taken)
    store.add("http://h.test/large.png", Arrival(large))
    (row,) = store.rows()
    assert (row["reason"], row["sha256"], json.loads(row["notes"])) == ("forgotten", "", {})


def test_the_key_leaves_the_hash_of_older_recipes() -> None:
    assert recipe().digest() == recipe(max_side=None, http2=True).digest()
    assert recipe().digest() != recipe(max_side=320).digest()
