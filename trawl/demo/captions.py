"""Caption sets on disk: pictures with COCO captions, COCO boxes, region phrases and questions.

A set is made by several processes and can be killed anywhere: a picture appears when it is whole,
the tables come last, and the same call again makes what is missing. The bytes do not depend on
the number of processes nor on how often the work was interrupted.
"""

import json
import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from trawl import storage
from trawl.errors import RequestError, WorkError
from trawl.progress import leg

FORMAT = 1
"""Raised whenever equal arguments begin to make other bytes, so that no set mixes the two."""

PLAN_FILE = "plan.json"
TABLES = ("instances.json", "regions.json", "questions.json", "captions.json")
"""The tables in the order of writing: when the last one is there, the set is complete."""

Row = dict[str, Any]


@dataclass(frozen=True)
class CaptionSet:
    """What a caption set is made from."""

    seed: int
    split: str
    count: int
    captions_each: int
    format: int = FORMAT


def write_captions(
    folder: str | Path,
    seed: int,
    split: str,
    count: int,
    workers: int = 2,
    captions_each: int = 5,
) -> None:
    """Write scenes 0 to `count` of `split` to `folder`, or what is still missing of them there.

    Raises RequestError if `folder` holds another set, WorkError if a process dies.
    """
    if count < 1 or captions_each < 0 or workers < 1:
        raise RequestError("a caption set needs count >= 1, workers >= 1 and captions_each >= 0")
    root = str(folder)
    wanted = CaptionSet(seed, split, count, captions_each)
    _claim_folder(root, wanted)
    there = {Path(uri).name for uri in storage.list_files(storage.join(root, "images"))}
    missing = {index for index in range(count) if image_name(index) not in there}
    if not missing and storage.exists(storage.join(root, TABLES[-1])):
        return
    rows: dict[int, Row] = {}
    with leg(f"scenes of {split}", count) as progress:
        for index, row in _make_rows(root, wanted, missing, workers):
            rows[index] = row
            progress.advance()
    _write_tables(root, [rows[index] for index in range(count)])


def image_name(index: int) -> str:
    """Return the file name of picture `index` inside `images/`."""
    return f"{index:06d}.jpg"


def _claim_folder(root: str, wanted: CaptionSet) -> None:
    """Leave the plan in the folder; refuse a folder with another plan."""
    plan = storage.join(root, PLAN_FILE)
    if not storage.exists(plan):
        storage.write_json(plan, asdict(wanted))
        return
    found = storage.read_json(plan)
    if found != asdict(wanted):
        raise RequestError(
            f"{plan}: holds another caption set, {json.dumps(found)}; "
            "choose another folder or remove this one"
        )


def _make_rows(
    root: str, wanted: CaptionSet, missing: set[int], workers: int
) -> Iterator[tuple[int, Row]]:
    """Make the pictures that are missing and yield every scene's row, in any order."""
    if workers == 1 or wanted.count < 2 * workers:
        for index in range(wanted.count):
            yield index, make_row(root, wanted, index, index in missing)
        return
    context = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    for worker in range(workers):
        receiver, sender = context.Pipe(duplex=False)
        arguments = (sender, root, wanted, range(worker, wanted.count, workers), missing)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        sender.close()
        processes.append(process)
        pipes.append(receiver)
    try:
        for index, result in _receive(pipes):
            if isinstance(result, str):
                raise WorkError(f"{root}: scene {index}: {result}")
            yield index, result
        for process in processes:
            process.join()
            if process.exitcode:
                raise WorkError(
                    f"{root}: a process that renders ended with code {process.exitcode}; "
                    "run the same command again to go on"
                )
    finally:
        for process in processes:
            process.terminate()


def _receive(pipes: list[Connection]) -> Iterator[tuple[int, Row | str]]:
    """Yield what comes through the pipes until all are closed."""
    while pipes:
        for pipe in wait(pipes):
            assert isinstance(pipe, Connection)
            try:
                yield pipe.recv()
            except EOFError:
                pipes.remove(pipe)


def _work(
    sender: Connection, root: str, wanted: CaptionSet, indices: range, missing: set[int]
) -> None:
    """Make every scene of `indices` and send its row, or what went wrong with it.

    Ends when nobody listens any more: the parent process may have been killed.
    """
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends the work and its processes.
    for index in indices:
        result: Row | str
        try:
            result = make_row(root, wanted, index, index in missing)
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        try:
            sender.send((index, result))
        except BrokenPipeError:
            return


def make_row(root: str, wanted: CaptionSet, index: int, missing: bool) -> Row:
    """Return what the tables say of scene `index`; renders its picture first if it is `missing`."""
    # Here and not above, so that the parent process starts without the renderer.
    from trawl.demo.questions import questions
    from trawl.demo.render import encode_jpeg, render
    from trawl.demo.scenes import sample_scene
    from trawl.demo.texts import captions, region_phrases

    scene = sample_scene(wanted.seed, wanted.split, index)
    if missing:
        path = storage.join(root, "images", image_name(index))
        storage.write_bytes(path, encode_jpeg(render(scene)))
    return {
        "image": {
            "id": index,
            "file_name": image_name(index),
            "width": scene.width,
            "height": scene.height,
        },
        "captions": captions(scene, wanted.captions_each, "clean"),
        "instances": [
            {
                "box": item.box,
                "kind": item.kind,
                "attributes": {
                    "colour": item.colour,
                    "pattern": item.pattern,
                    "size": item.size,
                },
                "visible": item.visible,
            }
            for item in scene.objects
        ],
        "phrases": region_phrases(scene),
        "questions": [asdict(question) for question in questions(scene)],
    }


def _write_tables(root: str, rows: list[Row]) -> None:
    """Write the four tables; `captions.json` comes last and makes the set complete."""
    annotations = {
        "instances.json": [note for row in rows for note in _instances(row)],
        "regions.json": [note for row in rows for note in _regions(row)],
        "questions.json": [
            {"image_id": row["image"]["id"], **question}
            for row in rows
            for question in row["questions"]
        ],
        "captions.json": [
            {"image_id": row["image"]["id"], "caption": caption}
            for row in rows
            for caption in row["captions"]
        ],
    }
    images = [row["image"] for row in rows]
    for name in TABLES:
        numbered = [{"id": number, **note} for number, note in enumerate(annotations[name], 1)]
        table: dict[str, Any] = {"info": {"description": "scenes of the demo's world"}}
        table |= {"images": images, "annotations": numbered}
        if name == "instances.json":
            table["categories"] = _categories()
        storage.write_json(storage.join(root, name), table)


def _categories() -> list[Row]:
    from trawl.demo.kinds import KINDS

    return [
        {"id": number, "name": kind, "supercategory": "thing"}
        for number, kind in enumerate(KINDS, 1)
    ]


def _coco_box(box: tuple[float, float, float, float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _instances(row: Row) -> list[Row]:
    from trawl.demo.kinds import KINDS

    notes = []
    for item in row["instances"]:
        box = _coco_box(item["box"])
        notes.append(
            {
                "image_id": row["image"]["id"],
                "category_id": 1 + KINDS.index(item["kind"]),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "attributes": item["attributes"],
                "visible": item["visible"],
            }
        )
    return notes


def _regions(row: Row) -> list[Row]:
    return [
        {
            "image_id": row["image"]["id"],
            "bbox": _coco_box(row["instances"][index]["box"]),
            "phrase": phrase,
        }
        for index, phrase in row["phrases"]
    ]
