"""Where caption, tags and regions stand: `[CLS] caption [SEP] tags [SEP] padding regions`."""

from typing import Final

import numpy as np
import numpy.typing as npt

from data_pipeline.corpus.regions import Regions

GEOMETRY: Final = 6


def truncated(caption: int, tags: int, limit: int) -> tuple[int, int]:
    """Return how many tokens of caption and tags stay so that [CLS], [SEP]s and they fit `limit`.

    Takes one token at a time from the longer of the two, on a tie from the tags. Without tags
    there is no second [SEP].
    """
    room = limit - (3 if tags else 2)
    surplus = max(0, caption + tags - room)
    if surplus and caption != tags:
        level = min(surplus, abs(caption - tags))
        if caption > tags:
            caption -= level
        else:
            tags -= level
        surplus -= level
    return caption - surplus // 2, tags - (surplus + 1) // 2


def text_length(caption: int, tags: int) -> int:
    """Return the count of tokens with [CLS] and [SEP]s."""
    return caption + tags + (3 if tags else 2)


def fill_text(
    row: npt.NDArray[np.int64],
    segments: npt.NDArray[np.int64],
    caption: npt.NDArray[np.int64],
    tags: npt.NDArray[np.int64],
    start: int,
    separator: int,
) -> npt.NDArray[np.intp]:
    """Write the tokens and segments of one sample into `row` and `segments` [text].

    Returns the columns of the tokens that are not special, caption first [caption + tags].
    """
    row[0], row[len(caption) + 1] = start, separator
    row[1 : len(caption) + 1] = caption
    columns = np.arange(1, len(caption) + len(tags) + 1)
    if len(tags):
        end = len(caption) + len(tags) + 2
        row[len(caption) + 2 : end] = tags
        row[end] = separator
        segments[len(caption) + 2 : end + 1] = 1
        columns[len(caption) :] += 1
    return columns


def fill_regions(rows: npt.NDArray[np.float32], regions: Regions, width: int, height: int) -> int:
    """Write the vectors of the first regions into `rows` [limit, 2054]; return how many.

    A vector is the detector's feature and x1/W, y1/H, x2/W, y2/H, w/W, h/H.
    """
    count = min(len(rows), len(regions))
    boxes = regions.boxes[:count] / np.array([width, height, width, height], dtype=np.float32)
    rows[:count, :-GEOMETRY] = regions.features[:count]
    if regions.scale is not None:
        rows[:count, :-GEOMETRY] *= regions.scale[:count, None]
    rows[:count, -GEOMETRY:-2] = boxes
    rows[:count, -2:] = boxes[:, 2:] - boxes[:, :2]
    return count
