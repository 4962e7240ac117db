import io
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.manifest import Manifest, manifest_sha256, read_manifest, write_manifest
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.regions import Regions, made_by
from data_pipeline.corpus.verify import read_tar, verify
from data_pipeline.detector import extraction, extraction_run, extraction_stream
from data_pipeline.detector.extraction_recipe import ExtractRecipe
from data_pipeline.detector.extraction_run import differences_of, storage_of
from data_pipeline.detector.extraction_source import Candidate
from tests.data_pipeline.exchange import foreign
from trawl import chance
from trawl.errors import RequestError, WorkError

SIZE = (96, 64)


def picture(number: int, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    draw = chance.generator("extraction", number)
    rough = draw.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, form: str = "JPEG", **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def claimed_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(5), exif=exif)


def deep_png() -> bytes:
    ramp = np.linspace(0, 65535, SIZE[0] * SIZE[1]).astype(np.uint16).reshape(SIZE[1], SIZE[0])
    return encoded(Image.fromarray(ramp), "PNG")


def hostile() -> dict[str, tuple[bytes, str, str]]:
    """Files by name: bytes, the reason of the decision, and what a note must say."""
    frames = [picture(number, mode="P") for number in (7, 8, 9)]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    whole = encoded(picture(0))
    return {
        "good.jpg": (whole, "kept", ""),
        "twin.jpg": (whole, "duplicate", ""),
        "truncated.jpg": (encoded(picture(1))[:-400], "truncated", ""),
        "cmyk.jpg": (encoded(picture(2, mode="CMYK")), "kept", "CMYK"),
        "deep.png": (deep_png(), "kept", "16 bits"),
        "moving.gif": (animated, "kept", "first of 3"),
        "turned.jpg": (turned(), "kept", "EXIF"),
        "flat.png": (encoded(picture(6, (80, 1)), "PNG"), "kept", ""),
        "huge.png": (claimed_png(20_000, 20_000), "too-many-pixels", "20000x20000"),
        "empty.jpg": (b"", "empty", ""),
        "notes.txt": (b"no image at all", "not-an-image", ""),
        "folder/deep/other.jpg": (encoded(picture(10, (70, 90))), "kept", ""),
    }


def write_files(folder: Path, files: dict[str, tuple[bytes, str, str]]) -> Path:
    for name, (data, _, _) in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def run(source: Path, out: Path, **more: object) -> Manifest:
    recipe = ExtractRecipe.model_validate({"name": "extracted", "source": str(source), **more})
    return extraction_run.extract(recipe, str(out))


class PlainDetector:
    """A detector that is fast and simple: two boxes, features from the mean colours in them."""

    name = "plain"
    weights_sha256 = "7" * 64
    objects = foreign.OBJECTS
    attributes = foreign.ATTRIBUTES
    feature_size = foreign.FEATURES
    most_pixels = 1 << 30

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, images: list[np.ndarray], selection: str) -> list[Regions]:
        self.batches.append(len(images))
        if any(image.size > self.most_pixels * 3 for image in images):
            raise RuntimeError("too large for this detector")
        return [self._regions(image) for image in images]

    def _regions(self, image: np.ndarray) -> Regions:
        height, width = image.shape[:2]
        boxes = np.array([[0, 0, width, height], [0, 0, width / 2, height]], np.float32)
        return Regions(
            boxes=boxes,
            features=self.features_at([image], [boxes])[0],
            object_ids=np.array([0, 1], np.int16),
            attribute_ids=np.array([1, -1], np.int16),
            object_conf=np.array([0.9, 0.5], np.float16),
            attribute_conf=np.array([0.4, 0], np.float16),
        )

    def features_at(self, images: list[np.ndarray], boxes: list[np.ndarray]) -> list[np.ndarray]:
        def feature(image: np.ndarray, box: np.ndarray) -> np.ndarray:
            left, top, right, bottom = (int(value) for value in box)
            inside = image[top : max(bottom, top + 1), left : max(right, left + 1)]
            colours = inside.reshape(-1, 3).mean(axis=0)
            return np.resize(colours / 255, self.feature_size).astype(np.float32)

        return [
            np.stack([feature(image, box) for box in given]) if len(given) else np.zeros((0, 24))
            for image, given in zip(images, boxes, strict=True)
        ]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> PlainDetector:
    detector = PlainDetector()
    monkeypatch.setattr(extraction_run, "open_detector", lambda recipe: detector)
    return detector


def rows_of(out: Path) -> dict[str, dict[str, object]]:
    return {row["url"]: row for row in read_decisions(str(out))}


def faults(out: Path) -> list[str]:
    return [fault for _, found in verify(str(out)) for fault in found]


def check_hostile(out: Path, files: dict[str, tuple[bytes, str, str]]) -> None:
    rows = rows_of(out)
    assert {name: row["reason"] for name, row in rows.items()} == {
        name: reason for name, (_, reason, _) in files.items()
    }
    for name, (_, _, note) in files.items():
        assert note in str(rows[name]["scores"]), name
    assert rows["turned.jpg"]["width"] == SIZE[1]  # upright, as EXIF says
    assert faults(out) == []


def test_every_bad_image_is_a_decision_and_the_run_goes_on(
    tmp_path: Path, plain: PlainDetector
) -> None:
    files = hostile()
    source = write_files(tmp_path / "images", files)
    manifest = run(source, tmp_path / "out", batch=3)
    check_hostile(tmp_path / "out", files)
    kept = sum(reason == "kept" for _, reason, _ in files.values())
    assert (manifest.samples, manifest.regions, manifest.captions) == (kept, 2 * kept, 0)
    assert sum(manifest.funnel.values()) == len(files)


def test_the_demos_detector_survives_every_bad_image(tmp_path: Path) -> None:
    files = hostile()
    source = write_files(tmp_path / "images", files)
    run(source, tmp_path / "out", batch=4)
    check_hostile(tmp_path / "out", files)


def test_sixteen_bits_keep_their_range(tmp_path: Path, plain: PlainDetector) -> None:
    source = write_files(tmp_path / "images", {"deep.png": (deep_png(), "kept", "")})
    run(source, tmp_path / "out")
    whole, left = Corpus(tmp_path / "out")[0].regions.float_features()[:, 0]
    assert 0.45 < whole < 0.55  # a ramp from black to white
    assert abs(left - whole) < 0.05


def test_an_image_that_the_detector_cannot_take_does_not_take_its_batch_along(
    tmp_path: Path, plain: PlainDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainDetector, "most_pixels", 100 * 70)
    files = {f"{n}.jpg": (encoded(picture(n)), "kept", "") for n in range(5)}
    files["large.jpg"] = (encoded(picture(9, (200, 100))), "detector-failed", "too large for")
    source = write_files(tmp_path / "images", files)
    manifest = run(source, tmp_path / "out")
    assert manifest.funnel == {"write/kept": 5, "detect/detector-failed": 1}
    assert "RuntimeError: too large" in str(rows_of(tmp_path / "out")["large.jpg"]["scores"])


def test_a_detector_that_fails_on_every_image_is_an_error(
    tmp_path: Path, plain: PlainDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainDetector, "most_pixels", 1)
    source = write_files(tmp_path / "images", {"a.jpg": (encoded(picture(1)), "", "")})
    with pytest.raises(WorkError, match="failed on every image; the first: RuntimeError: too"):
        run(source, tmp_path / "out")


def test_a_killed_extraction_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, plain: PlainDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{n}.jpg": (encoded(picture(n)), "kept", "") for n in range(10)}
    source = write_files(tmp_path / "images", files)
    run(source, tmp_path / "whole", samples=3, batch=2)
    plain.batches.clear()
    real = extraction.Extraction.do

    def dying(self: extraction.Extraction, number: int, units: object) -> object:
        if number == 2:
            raise KeyboardInterrupt
        return real(self, number, units)  # type: ignore[arg-type]

    with monkeypatch.context() as dead:
        dead.setattr(extraction.Extraction, "do", dying)
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "killed", samples=3, batch=2)
    assert plain.batches == [2, 1, 2, 1]
    run(source, tmp_path / "killed", samples=3, batch=2)
    assert plain.batches == [2, 1, 2, 1, 2, 1, 1]  # the units that were done stay done
    whole, killed = str(tmp_path / "whole"), str(tmp_path / "killed")
    assert manifest_sha256(whole) == manifest_sha256(killed)
    run(source, tmp_path / "killed", samples=3, batch=2)
    assert len(plain.batches) == 7


def test_a_corpus_keeps_all_but_regions_and_tags(tmp_path: Path, plain: PlainDetector) -> None:
    images = tmp_path / "images"
    rows = [foreign.lxmert_columns(number) for number in range(4)]
    size = (foreign.WIDTH, foreign.HEIGHT)
    files = {f"{row[0]}.jpg": (encoded(picture(n, size)), "", "") for n, row in enumerate(rows)}
    write_files(images, files)
    source = foreign.write_tsv(tmp_path / "a.tsv", rows)
    first = foreign.run_import(
        "lxmert-tsv", source, tmp_path / "first", images=str(images), samples=3
    )
    manifest = run(tmp_path / "first", tmp_path / "second", features="int8")
    assert manifest.parents == [manifest_sha256(str(tmp_path / "first"))]
    assert [shard.samples for shard in manifest.shards] == [3, 1]
    assert (manifest.detector.name, manifest.detector.features) == ("plain", "int8")
    before, after = Corpus(tmp_path / "first"), Corpus(tmp_path / "second")
    for number in range(first.samples):
        old, new = before[number], after[number]
        assert new.key == old.key
        assert new.meta == {**old.meta, "tags": ["cup", "drum"]}
        assert before.image(number) == after.image(number)
        assert new.regions.features.dtype == np.int8
    assert faults(tmp_path / "second") == []


def test_features_at_given_boxes_and_their_difference(tmp_path: Path, plain: PlainDetector) -> None:
    size = (foreign.WIDTH, foreign.HEIGHT)
    images = {f"image {n}.png": (encoded(picture(n, size), "PNG"), "", "") for n in range(3)}
    images["image 9.png"] = (encoded(picture(9, (50, 50)), "PNG"), "", "")
    images["stranger.png"] = (encoded(picture(8), "PNG"), "", "")
    source = write_files(tmp_path / "images", images)
    rows = [foreign.lxmert_columns(number) for number in (0, 1, 2, 9)]
    for number, row in enumerate(rows[:2]):
        pixels = np.asarray(picture(number, size))
        exact = plain.features_at([pixels], [foreign.boxes_of(number, 3)])[0]
        row[9] = foreign.text(exact + 0.25 * number, "<f4")
    table = foreign.write_tsv(tmp_path / "boxes" / "a.tsv", rows)
    manifest = run(source, tmp_path / "out", boxes_from=str(table))
    assert manifest.funnel == {
        "write/kept": 3,
        "detect/no-boxes": 1,
        "detect/size-disagrees": 1,
    }
    assert manifest.detector.selection == "given-boxes"
    told = {name: (value, count) for name, value, count in differences_of(str(tmp_path / "out"))}
    assert told["image 0.png"] == (0, 3)
    assert told["image 1.png"] == (pytest.approx(0.25, abs=1e-6), 3)
    assert set(told) == {"image 0.png", "image 1.png", "image 2.png"}
    corpus = Corpus(tmp_path / "out")
    for number in range(3):
        sample = corpus[number]
        which = int(sample.meta["url"][6])
        assert np.array_equal(sample.regions.boxes, foreign.boxes_of(which, 3))


def test_storage_is_measured_on_what_was_stored(tmp_path: Path, plain: PlainDetector) -> None:
    files = {f"{n}.jpg": (encoded(picture(n)), "kept", "") for n in range(5)}
    source = write_files(tmp_path / "images", files)
    run(source, tmp_path / "out", samples=2)
    report = storage_of(str(tmp_path / "out"))
    assert (report.images, report.regions) == (5, 10)
    half, byte = report.forms["float16"], report.forms["int8"]
    assert half.cosines / 10 > byte.cosines / 10 > 0.9999
    assert half.bytes - byte.bytes > 0.8 * 10 * foreign.FEATURES - 5 * 100
    stored = json.loads((tmp_path / "out" / "report" / "storage.json").read_text())
    assert stored == report.to_json()


def test_rule_and_weights_are_in_every_sample(tmp_path: Path, plain: PlainDetector) -> None:
    files = {f"{n}.jpg": (encoded(picture(n)), "kept", "") for n in range(2)}
    source, out = write_files(tmp_path / "images", files), tmp_path / "out"
    run(source, out, samples=1, selection="butd-36")
    told = {"name": "plain", "selection": "butd-36", "weights_sha256": "7" * 64}
    for shard in (out / "shards").glob("*.tar"):
        for _, members, _ in read_tar(str(shard)):
            assert made_by(members["regions"]) == told
    manifest = read_manifest(str(out))
    other = manifest.detector.model_copy(update={"selection": "butd-10-100"})
    write_manifest(str(out), manifest.model_copy(update={"detector": other}))
    assert "butd-36" in faults(out)[0]


def test_wrong_requests_are_refused(tmp_path: Path, plain: PlainDetector) -> None:
    source = write_files(tmp_path / "images", {"a.jpg": (encoded(picture(1)), "", "")})
    with pytest.raises(RequestError, match="vinvl-filter1 or vinvl-filter2"):
        run(source, tmp_path / "out", detector="vinvl")
    with pytest.raises(RequestError, match="is the source itself"):
        run(source, source)
    with pytest.raises(RequestError, match="neither a corpus nor a folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    run(source, tmp_path / "done")
    with pytest.raises(RequestError, match="another recipe"):
        run(source, tmp_path / "done", features="int8")


def test_batches_in_two_lanes_come_in_their_order(tmp_path: Path, plain: PlainDetector) -> None:
    files = {f"{n}.jpg": (encoded(picture(n)), "kept", "") for n in range(9)} | hostile()
    source = write_files(tmp_path / "images", files)
    usual = run(source, tmp_path / "usual", batch=2, samples=8)
    lanes = run(source, tmp_path / "lanes", batch=2, samples=8, device="cuda", number="bfloat16")
    assert lanes.shards == usual.shards
    assert lanes.decisions == usual.decisions


def test_in_order_ends_with_the_first_error_and_leaves_no_thread() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise WorkError("half way")
        return number

    stream = extraction_stream.in_order(range(100), work, 3, 3)
    assert [next(stream) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(WorkError, match="half way"):
        next(stream)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("work")]


def test_decoding_runs_no_further_ahead_than_it_may() -> None:
    taken = []

    def candidates() -> object:
        for number in range(50):
            taken.append(number)
            data = encoded(picture(number % 3))
            yield Candidate(str(number), "", number, "0" * 64, data, None)

    stream = extraction_stream.decoded(candidates(), 10_000, ahead=4, threads=2)  # type: ignore[arg-type]
    for number in range(10):
        assert next(stream).candidate.position == number
        assert len(taken) <= number + 1 + 4
    assert len(list(stream)) == 40


def test_work_in_the_background_is_bounded_and_hands_on_its_errors() -> None:
    made = []

    def batches(fault: int) -> Iterator[list[int]]:
        for number in range(100):
            if number == fault:
                raise WorkError("half way")
            made.append(number)
            yield [number, number]

    stream = extraction_stream.in_background(batches(1000), 2)
    for number in range(5):
        assert (next(stream), next(stream)) == (number, number)
        assert len(made) <= number + 1 + 2 + 1  # read, waiting, and the one that is being handed on
    stream.close()
    assert len(made) < 20
    with pytest.raises(WorkError, match="half way"):
        list(extraction_stream.in_background(batches(3), 2))
    assert "detect" not in {thread.name for thread in threading.enumerate()}
