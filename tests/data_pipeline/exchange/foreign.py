"""Files as the original repositories write them, made here from random but fixed arrays."""

import base64
from pathlib import Path

import numpy as np

from data_pipeline.corpus.manifest import Manifest
from data_pipeline.exchange.formats import open_source
from data_pipeline.exchange.importing import import_corpus
from data_pipeline.exchange.recipe import ImportRecipe
from trawl import chance

FEATURES = 24
WIDTH, HEIGHT = 640, 480
OBJECTS = ["cup", "drum", "kite", "leaf"]
ATTRIBUTES = ["red", "blue"]


def text(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype)).decode()


def boxes_of(number: int, count: int) -> np.ndarray:
    corners = chance.generator("foreign boxes", number).random((count, 2, 2))
    corners.sort(axis=1)
    return (corners * [WIDTH, HEIGHT]).reshape(count, 4).astype(np.float32)


def features_of(number: int, count: int) -> np.ndarray:
    draw = chance.generator("foreign features", number)
    return np.maximum(draw.standard_normal((count, FEATURES)), 0).astype(np.float32)


def lxmert_columns(number: int, count: int = 3) -> list[str]:
    draw = chance.generator("foreign", number)
    return [
        f"image {number}",
        str(HEIGHT),
        str(WIDTH),
        text(draw.integers(0, len(OBJECTS), count), "<i8"),
        text(draw.random(count), "<f4"),
        text(draw.integers(0, len(ATTRIBUTES), count), "<i8"),
        text(draw.random(count), "<f4"),
        str(count),
        text(boxes_of(number, count), "<f4"),
        text(features_of(number, count), "<f4"),
    ]


def write_names(folder: Path) -> None:
    (folder / "objects_vocab.txt").write_text("\n".join(f"{n},other {n}" for n in OBJECTS))
    (folder / "attributes_vocab.txt").write_text("\n".join(ATTRIBUTES))


def write_tsv(path: Path, rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(columns) + "\n" for columns in rows))
    write_names(path.parent)
    return path


def run_import(kind: str, source: Path, out: Path, **more: object) -> Manifest:
    recipe = ImportRecipe.model_validate(
        {"name": "imported", "kind": kind, "source": str(source), **more}
    )
    return import_corpus(open_source(recipe), recipe, str(out))
