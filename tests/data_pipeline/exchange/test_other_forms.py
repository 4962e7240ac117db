import base64
import io
import json
import os
import pickle
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.verify import verify
from data_pipeline.exchange import vilbert_lmdb
from data_pipeline.exchange.rows import RowError
from tests.data_pipeline.exchange import foreign
from trawl.errors import RequestError, WorkError

W, H = foreign.WIDTH, foreign.HEIGHT


def samples_of(out: Path) -> dict[str, object]:
    corpus = Corpus(out)
    assert [fault for _, found in verify(str(out)) for fault in found] == []
    return {corpus[n].meta["url"]: corpus[n] for n in range(len(corpus))}


def task_row(number: int, count: int, encoded: bool) -> dict[str, object]:
    boxes, features = foreign.boxes_of(number, count), foreign.features_of(number, count)
    return {
        "image_id": number,
        "image_h": str(H) if encoded else H,
        "image_w": str(W) if encoded else W,
        "num_boxes": str(count) if encoded else count,
        "boxes": foreign.text(boxes, "<f4") if encoded else boxes,
        "features": foreign.text(features, "<f4").encode() if encoded else features,
    }


def probabilities(count: int) -> np.ndarray:
    table = np.zeros((count, len(foreign.OBJECTS) + 1), np.float32)
    table[:, 0], table[:, 2] = 0.7, 0.3
    return table


def concept_row(number: int, count: int) -> list[object]:
    padded = np.zeros((count + 2, foreign.FEATURES), np.float32)
    padded[:count] = foreign.features_of(number, count)
    boxes = foreign.boxes_of(number, count)
    caption = f"caption  {number}"
    return [padded, probabilities(count), boxes, count, H, W, 1000 + number, caption]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


def test_pickles_that_ask_for_more_than_arrays_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for hostile in (pickle.dumps(Evil()), pickle.dumps({"features": Evil()}), b"\x80\x04cut"):
        with pytest.raises(RowError, match="bad-pickle"):
            vilbert_lmdb.unpack(hostile)
    assert not (tmp_path / "owned").exists()
    for hostile in (b"\x98\x01", b"\x91\x81\xc4\x02nd\xc3"):
        with pytest.raises(RowError, match="bad-msgpack"):
            vilbert_lmdb.unpack(hostile)


def test_msgpack_with_numpy_arrays_is_read_without_objects() -> None:
    import msgpack

    array = np.arange(6, dtype="<f4").reshape(2, 3)
    packed = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": (2, 3), b"data": array.tobytes()}
    number = {b"nd": False, b"type": "<i8", b"data": np.int64(7).tobytes()}
    read = vilbert_lmdb.unpack(msgpack.packb([packed, number, "text"], use_bin_type=True))
    assert np.array_equal(read[0], array)
    assert read[1:] == [7, "text"]
    packed[b"type"], packed[b"kind"] = "|O", b"O"
    with pytest.raises(RowError, match="an array of object"):
        vilbert_lmdb.unpack(msgpack.packb([packed], use_bin_type=True))


def test_a_missing_lmdb_module_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(RequestError, match="pip install lmdb"):
        foreign.run_import("vilbert-lmdb", tmp_path, tmp_path / "out")


def write_lmdb(path: Path, entries: dict[bytes, bytes]) -> None:
    path.mkdir()
    foreign.write_names(path)
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as t:
        for key, value in entries.items():
            t.put(key, value)


@pytest.mark.parametrize("encoded", [True, False], ids=["beta", "multi-task"])
def test_the_lmdb_of_the_tasks(tmp_path: Path, encoded: bool) -> None:
    rows = {str(n).encode(): pickle.dumps(task_row(n, n + 1, encoded)) for n in range(3)}
    entries = {**rows, b"7": pickle.dumps(Evil()), b"keys": pickle.dumps([*rows, b"7", b"8"])}
    write_lmdb(tmp_path / "lmdb", entries)
    manifest = foreign.run_import("vilbert-lmdb", tmp_path / "lmdb", tmp_path / "out")
    assert manifest.funnel == {
        "write/kept": 3,
        "collect/bad-pickle": 1,
        "collect/missing-row": 1,
    }
    sample = samples_of(tmp_path / "out")["2"]
    assert np.array_equal(sample.regions.boxes, foreign.boxes_of(2, 3))
    assert np.array_equal(sample.regions.features, foreign.features_of(2, 3).astype(np.float16))
    assert manifest.detector.objects[-1] == "unknown"


def test_the_lmdb_of_conceptual_captions(tmp_path: Path) -> None:
    msgpack = pytest.importorskip("msgpack")

    def as_msgpack(value: object) -> object:
        if isinstance(value, np.ndarray):
            shape, data = value.shape, value.tobytes()
            kind = value.dtype.str
            return {b"nd": True, b"type": kind, b"kind": b"", b"shape": shape, b"data": data}
        return value

    old = msgpack.packb([as_msgpack(value) for value in concept_row(0, 2)], use_bin_type=True)
    keys = [b"00000000", b"00000001"]
    entries = {keys[0]: old, keys[1]: pickle.dumps(concept_row(1, 3))}
    entries[b"__keys__"] = msgpack.packb(keys, use_bin_type=True)
    write_lmdb(tmp_path / "lmdb", entries)
    manifest = foreign.run_import("vilbert-lmdb", tmp_path / "lmdb", tmp_path / "out")
    assert (manifest.samples, manifest.regions, manifest.captions) == (2, 5, 2)
    samples = samples_of(tmp_path / "out")
    assert samples["1000"].meta["captions"][0]["text"] == "caption 0"
    assert samples["1001"].regions.object_ids.tolist() == [1, 1, 1]
    assert np.array_equal(samples["1001"].regions.class_probs, probabilities(3).astype(np.float16))


def write_arrow(path: Path, counts: list[int], most: int = 4, normalised: bool = True) -> None:
    """An Arrow stream with the columns and padding of the Hugging Face example."""
    columns: dict[str, list[object]] = {
        "img_id": [100 + n for n in range(len(counts))],
        "preds_per_image": list(counts),
        "sizes": [[800.0, 1066.0] for _ in counts],
    }

    def padded(array: np.ndarray) -> list[object]:
        whole = np.zeros((most, *array.shape[1:]), np.float32)
        whole[: len(array)] = array
        return whole.tolist()

    def add(name: str, array: np.ndarray) -> None:
        columns.setdefault(name, []).append(padded(array))

    for number, count in enumerate(counts):
        boxes = foreign.boxes_of(number, count)
        add("boxes", boxes)
        if normalised:
            add("normalized_boxes", boxes / np.array([W, H, W, H], np.float32))
        add("roi_features", foreign.features_of(number, count))
        add("obj_ids", np.arange(count) % len(foreign.OBJECTS))
        add("obj_probs", np.full(count, 0.5))
        add("attr_ids", np.arange(count) % len(foreign.ATTRIBUTES))
        add("attr_probs", np.full(count, 0.25))
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def test_hugging_face_arrow_files(tmp_path: Path) -> None:
    foreign.write_names(tmp_path)
    write_arrow(tmp_path / "a.arrow", [2, 4, 1])
    manifest = foreign.run_import("hf-frcnn", tmp_path / "a.arrow", tmp_path / "out", samples=2)
    assert (manifest.samples, manifest.regions) == (3, 7)
    sample = samples_of(tmp_path / "out")["101"]
    assert np.array_equal(sample.regions.boxes, foreign.boxes_of(1, 4))
    assert np.array_equal(sample.regions.features, foreign.features_of(1, 4).astype(np.float16))
    assert (sample.meta["width"], sample.meta["height"]) == (W, H)
    assert sample.regions.attribute_ids.tolist() == [0, 1, 0, 1]


def test_hugging_face_arrow_files_without_a_size_or_cut_short(tmp_path: Path) -> None:
    foreign.write_names(tmp_path)
    write_arrow(tmp_path / "a.arrow", [2], normalised=False)
    with pytest.raises(WorkError, match=r"size-missing.*--images"):
        foreign.run_import("hf-frcnn", tmp_path / "a.arrow", tmp_path / "out")
    write_arrow(tmp_path / "b.arrow", [2, 2, 2])
    data = (tmp_path / "b.arrow").read_bytes()
    (tmp_path / "b.arrow").write_bytes(data[: len(data) * 9 // 10])
    manifest = foreign.run_import("hf-frcnn", tmp_path / "b.arrow", tmp_path / "cut")
    assert manifest.funnel == {"write/kept": 2, "collect/truncated": 1}
    (tmp_path / "c.arrow").write_bytes(b"nothing of the kind")
    with pytest.raises(RequestError, match="not an Arrow file"):
        foreign.run_import("hf-frcnn", tmp_path / "c.arrow", tmp_path / "none")


def jpeg(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side * 2, side), (side, 90, 20)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_xvlm_lines_bring_images_captions_and_phrases(tmp_path: Path) -> None:
    images = tmp_path / "images" / "sub"
    images.mkdir(parents=True)
    (images / "a.jpg").write_bytes(jpeg(40))
    lines: list[object] = [
        {
            "image": "sub/a.jpg",
            "caption": ["One.", "Two."],
            "elems": [{"caption": "a red cup", "bb": [1, 2, 10, 20]}],
        },
        {"binary": base64.b64encode(jpeg(50)).decode(), "caption": "Three."},
        {"image": "../secret.jpg", "caption": "Four."},
        {"image": "sub/none.jpg", "caption": "Five."},
        ["no", "object"],
        {"binary": base64.b64encode(b"no image").decode(), "caption": "Six."},
        {"binary": base64.b64encode(jpeg(60)).decode(), "caption": "half \ud83d of a pair"},
        {"image": "\ud83d.jpg", "caption": "Seven."},
        {
            "binary": base64.b64encode(jpeg(70)).decode(),
            "caption": [f"{n} {chr(120) * 999}" for n in range(5000)],
        },
    ]
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = foreign.run_import(
        "xvlm-jsonl", source, tmp_path / "out", images=str(tmp_path / "images")
    )
    assert manifest.funnel == {
        "write/kept": 2,
        "collect/image-missing": 3,
        "collect/bad-text": 1,
        "collect/too-long": 1,
        "collect/bad-json": 1,
        "collect/not-an-image": 1,
    }
    samples = samples_of(tmp_path / "out")
    first = samples["sub/a.jpg"].meta
    assert [caption["text"] for caption in first["captions"]] == ["One.", "Two."]
    assert first["regions_text"] == [{"box": [1, 2, 11, 22], "phrase": "a red cup"}]
    assert (samples["row 2"].meta["width"], samples["row 2"].meta["height"]) == (100, 50)
    assert len(samples["row 2"].regions) == 0
