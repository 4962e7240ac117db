import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import simplejpeg

from trawl.demo.captions import TABLES, write_captions
from trawl.demo.kinds import KINDS
from trawl.errors import RequestError, WorkError

COUNT = 8
CODE = """
import sys
from trawl.demo.captions import write_captions
if __name__ == "__main__":
    write_captions(sys.argv[1], 4, "train", int(sys.argv[2]), workers=2, captions_each=3)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    write_captions(folder, 4, "train", COUNT, workers=1, captions_each=3)
    return folder


def table(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def test_tables_are_consistent(made: Path) -> None:
    captions = table(made, "captions.json")
    assert [image["id"] for image in captions["images"]] == list(range(COUNT))
    assert len(captions["annotations"]) == 3 * COUNT
    sizes = {image["id"]: (image["width"], image["height"]) for image in captions["images"]}
    for image in captions["images"]:
        picture = (made / "images" / image["file_name"]).read_bytes()
        height, width = simplejpeg.decode_jpeg_header(picture)[:2]
        assert (width, height) == sizes[image["id"]]
    for name in TABLES:
        found = table(made, name)
        assert found["images"] == captions["images"]
        numbers = [note["id"] for note in found["annotations"]]
        assert len(set(numbers)) == len(numbers)
        assert {note["image_id"] for note in found["annotations"]} == set(sizes)
        for note in found["annotations"]:
            if "bbox" in note:
                x, y, width, height = note["bbox"]
                limit_x, limit_y = sizes[note["image_id"]]
                assert 0 <= x < x + width <= limit_x
                assert 0 <= y < y + height <= limit_y


def test_instances_are_coco_boxes(made: Path) -> None:
    instances = table(made, "instances.json")
    assert [entry["name"] for entry in instances["categories"]] == list(KINDS)
    assert [entry["id"] for entry in instances["categories"]] == list(range(1, len(KINDS) + 1))
    for note in instances["annotations"]:
        assert 1 <= note["category_id"] <= len(KINDS)
        assert note["area"] == note["bbox"][2] * note["bbox"][3]
        assert note["iscrowd"] == 0
        assert set(note["attributes"]) == {"colour", "pattern", "size"}
    for note in table(made, "questions.json")["annotations"]:
        assert note["question"].endswith("?")
        assert note["answer"]


def test_two_processes_write_the_same_bytes(made: Path, tmp_path: Path) -> None:
    write_captions(tmp_path, 4, "train", COUNT, workers=2, captions_each=3)
    assert contents(tmp_path) == contents(made)


def test_only_what_is_missing_is_made_again(made: Path, tmp_path: Path) -> None:
    write_captions(tmp_path, 4, "train", COUNT, workers=1, captions_each=3)
    (tmp_path / "images/000003.jpg").unlink()
    kept = (tmp_path / "images/000002.jpg").stat().st_mtime_ns
    write_captions(tmp_path, 4, "train", COUNT, workers=1, captions_each=3)
    assert (tmp_path / "images/000002.jpg").stat().st_mtime_ns == kept
    assert contents(tmp_path) == contents(made)


def test_another_set_in_the_same_folder_is_refused(made: Path) -> None:
    with pytest.raises(RequestError, match="another folder"):
        write_captions(made, 5, "train", COUNT)
    with pytest.raises(RequestError, match="count"):
        write_captions(made, 4, "train", 0)


def test_what_goes_wrong_in_a_process_is_told(tmp_path: Path) -> None:
    (tmp_path / "images" / "000001.jpg").mkdir(parents=True)
    with pytest.raises(WorkError, match="scene 1"):
        write_captions(tmp_path, 4, "train", COUNT, workers=2, captions_each=3)


def alive(group: int) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "pgid,stat,args"], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()[1:]]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


def wait_until(true: Callable[[], bool], seconds: float = 300) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize("whole_group", [True, False])
def test_killed_anywhere_it_ends_with_the_same_bytes(tmp_path: Path, whole_group: bool) -> None:
    script = tmp_path / "make.py"
    script.write_text(CODE)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, str(script), str(killed), "32"]
    for pictures in (1, 12):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        wait_until(lambda least=pictures: len(list(killed.glob("images/*.jpg"))) >= least)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda group=process.pid: not alive(group))
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    write_captions(whole, 4, "train", 32, workers=1, captions_each=3)
    assert contents(killed) == contents(whole)
