"""The codec of regions: exact, readable by safetensors, and strict about what it reads."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.corpus.regions import FIELDS, Regions, decode, encode, made_by
from tests.data_pipeline.corpus.samples import regions
from trawl.errors import WorkError


@pytest.mark.parametrize("form", ["float16", "int8"])
@pytest.mark.parametrize("count", [0, 1, 37])
def test_what_is_written_is_read(form: str, count: int) -> None:
    made = regions(1, form, count)
    blob = encode(made)
    read = decode(blob)
    for name in FIELDS:
        expected, found = getattr(made, name), getattr(read, name)
        if expected is None:
            assert found is None
        else:
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert encode(read) == blob


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_safetensors_reads_the_blob(form: str) -> None:
    made = regions(2, form, 7)
    loaded = safetensors.numpy.load(encode(made))
    np.testing.assert_array_equal(loaded["features"], made.features)
    np.testing.assert_array_equal(loaded["boxes"], made.boxes)
    assert ("scale" in loaded) == (form == "int8")


def test_the_blob_of_safetensors_is_read() -> None:
    made = regions(3, "float16", 4)
    arrays = {name: getattr(made, name) for name in FIELDS if getattr(made, name) is not None}
    np.testing.assert_array_equal(decode(safetensors.numpy.save(arrays)).features, made.features)


def test_the_blob_says_what_made_it() -> None:
    made, told = regions(3, "int8", 4), {"name": "butd", "selection": "butd-36"}
    blob = encode(made, told)
    assert made_by(blob) == told
    assert made_by(encode(made)) == {}
    np.testing.assert_array_equal(decode(blob).features, made.features)
    assert safetensors.numpy.load(blob).keys() == safetensors.numpy.load(encode(made)).keys()
    header, data = _header(blob)
    for hostile in ("x", {"name": 3}):
        header["__metadata__"] = hostile
        with pytest.raises(WorkError, match="table of text"):
            made_by(_blob(header, data))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40))
def test_int8_errs_by_little_more_than_half_a_step(values: list[float]) -> None:
    features = np.array([values], dtype=np.float32)
    base = regions(0, "float16", 1)
    stored = Regions(**{**base.__dict__, "features": features}).stored_as("int8")
    assert stored.scale is not None
    error = np.abs(stored.float_features() - features).max()
    assert error <= 0.51 * float(stored.scale[0]) + 1e-7
    assert np.abs(stored.features.astype(int)).max() <= 127


def _header(blob: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", blob[:8])
    return json.loads(blob[8 : 8 + length]), blob[8 + length :]


def _blob(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_hostile_blobs_are_refused() -> None:
    header, data = _header(encode(regions(4, "float16", 4)))
    changed = []
    for name, entry in (
        ("boxes", {"dtype": "F64"}),
        ("boxes", {"shape": [4, 5]}),
        ("boxes", {"shape": [-4, 4]}),
        ("boxes", {"shape": [10**9, 4]}),
        ("boxes", {"data_offsets": [0, 10**12]}),
        ("object_ids", {"data_offsets": [0, 8]}),
        ("object_ids", {"shape": [3]}),
        ("features", {"dtype": "I8"}),
    ):
        changed.append({**header, name: {**header[name], **entry}})
    changed.append({name: entry for name, entry in header.items() if name != "boxes"})
    changed.append({**header, "pickle": header["boxes"]})
    changed.append({**header, "boxes": [1, 2]})
    for bad in changed:
        with pytest.raises(WorkError, match="regions"):
            decode(_blob(bad, data))
    for blob in (b"", b"\xff" * 16, _blob(header, data)[:-1], _blob(header, data + b"x")):
        with pytest.raises(WorkError, match="regions"):
            decode(blob)
    with pytest.raises(WorkError, match="not JSON"):
        decode(struct.pack("<Q", 100_000 // 2) + b"[" * 60_000)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_never_pass(data: bytes) -> None:
    with pytest.raises(WorkError):
        decode(data)


def test_a_number_that_is_not_finite_is_refused() -> None:
    made = regions(5, "float16", 2)
    boxes = made.boxes.copy()
    boxes[0, 0] = np.nan
    blob = encode(Regions(**{**made.__dict__, "boxes": boxes}))
    with pytest.raises(WorkError, match="boxes"):
        decode(blob)


def test_views_are_read_only() -> None:
    read = decode(encode(regions(6, "float16", 2)))
    with pytest.raises(ValueError, match="read-only"):
        read.boxes[0, 0] = 1
