"""Examples prepared once and kept as raw pixels, so that every epoch after the first is cheap."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.detector.examples import Example, ExampleSource
from trawl import storage
from trawl.errors import RequestError
from trawl.progress import leg

_PART = 256
_source: ExampleSource | None = None


class CachedExamples:
    """Examples read from a folder that `write_cache` made; pixels stay on disk until used."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        described = storage.read_json(self._folder / "cache.json")
        self.objects = tuple(described["objects"])
        self.attributes = tuple(described["attributes"])
        self._count = int(described["count"])
        self._tables = [
            _read_table(_part_path(folder, part)) for part in range(-(-self._count // _PART))
        ]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        """Map one example's pixels from its part file and pick its boxes."""
        part, row = divmod(index, _PART)
        table = self._tables[part]
        height, width = (int(side) for side in table["sizes"][row])
        start = int(table["offsets"][row])
        pixels = np.memmap(self._folder / f"{part:05d}.pixels", np.uint8, "r")
        image = np.asarray(pixels[start : start + height * width * 3])
        mine = table["rows"] == row
        return Example(
            image.reshape(height, width, 3),
            table["boxes"][mine],
            table["object_ids"][mine],
            table["attribute_ids"][mine],
        )


def _read_table(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as table:
        return dict(table)


def write_cache(
    source: ExampleSource, folder: str, short_side: int, workers: int
) -> CachedExamples:
    """Shrink every example to the short side and keep it in `folder`, part by part, resumably."""
    description = {
        "objects": list(source.objects),
        "attributes": list(source.attributes),
        "count": len(source),
        "short_side": short_side,
    }
    path = Path(folder) / "cache.json"
    if path.exists() and storage.read_json(path) != description:
        raise RequestError(f"{path}: made from other data; give --cache another folder")
    Path(folder).mkdir(parents=True, exist_ok=True)
    parts = [p for p in range(-(-len(source) // _PART)) if not _part_path(folder, p).exists()]
    tasks = [(folder, part, short_side) for part in parts]
    with leg("training examples", len(source)) as progress:
        progress.advance(len(source) - min(len(source), len(parts) * _PART))
        for count in _written(source, tasks, workers):
            progress.advance(count)
    storage.write_json(path, description)
    return CachedExamples(folder)


def _written(
    source: ExampleSource, tasks: list[tuple[str, int, int]], workers: int
) -> Iterator[int]:
    """Write the parts and yield the number of examples of each; 0 workers: in this process."""
    if not workers:
        _set_source(source)
        yield from map(_write_part, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _set_source, (source,)) as pool:
        yield from pool.map(_write_part, tasks)


def _set_source(source: ExampleSource) -> None:
    global _source
    _source = source
    cv2.setNumThreads(1)


def _part_path(folder: str, part: int) -> Path:
    return Path(folder) / f"{part:05d}.npz"


def _write_part(task: tuple[str, int, int]) -> int:
    """Write one part: the pixels first, then the table whose presence says that it is whole."""
    folder, part, short_side = task
    assert _source is not None
    indices = range(part * _PART, min(len(_source), (part + 1) * _PART))
    sizes, offsets, rows, boxes, object_ids, attribute_ids = [], [], [], [], [], []
    position = 0
    with storage.open_atomic(Path(folder) / f"{part:05d}.pixels") as file:
        for row, index in enumerate(indices):
            example = shrink(_source[index], short_side)
            file.write(example.image.tobytes())
            sizes.append(example.image.shape[:2])
            offsets.append(position)
            position += example.image.size
            rows.append(np.full(len(example.boxes), row))
            boxes.append(example.boxes)
            object_ids.append(example.object_ids)
            attribute_ids.append(example.attribute_ids)
    with storage.open_atomic(_part_path(folder, part)) as file:
        np.savez(
            file,
            sizes=np.array(sizes),
            offsets=np.array(offsets),
            rows=np.concatenate(rows),
            boxes=np.concatenate(boxes),
            object_ids=np.concatenate(object_ids),
            attribute_ids=np.concatenate(attribute_ids),
        )
    return len(indices)


def shrink(example: Example, short_side: int) -> Example:
    """Scale an example down so that its short side is `short_side`; smaller ones stay."""
    height, width = example.image.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return example
    size = (round(width * scale), round(height * scale))
    image = cv2.resize(example.image, size, interpolation=cv2.INTER_LINEAR)
    growth = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    return Example(image, example.boxes * growth, example.object_ids, example.attribute_ids)
