"""Which samples get another image's tags or caption, and what the contrast head shall say then.

Oscar's released code draws r in [0, 1): above 0.5 the sample stays clean; above `texta_false_prob`
it gets other tags, if it has any; below that it gets another caption. Images are never exchanged.
"""

from typing import Literal

from trawl.errors import WorkError

Change = Literal["nothing", "tags", "caption"]

CLEAN_ABOVE = 0.5
RETRIES = 10


def change_for(draw: float, texta_false_prob: float, has_tags: bool) -> Change:
    """Return what to exchange in a sample that drew `draw`."""
    if draw > CLEAN_ABOVE:
        return "nothing"
    if draw > texta_false_prob and has_tags:
        return "tags"
    return "caption"


def contrast_classes(texta_false_prob: float, tags_used: bool = True) -> int:
    """Return how many classes the contrast head needs, as the released code counts them."""
    three = texta_false_prob < CLEAN_ABOVE and (texta_false_prob > 0 or not tags_used)
    return 3 if three else 2


def contrast_label(change: Change, classes: int) -> int:
    """Return the class of a changed sample: clean 0, other tags 1, other caption the last one."""
    return {"nothing": 0, "tags": 1, "caption": classes - 1}[change]


def match_label(change: Change) -> int:
    """Return 1 if the caption is the image's own, else 0."""
    return 0 if change == "caption" else 1


def other_sample(draw: float, sample: int, samples: int) -> int:
    """Return a sample other than `sample` among `samples`; `draw` in [0, 1) chooses evenly.

    Raises WorkError if there is no other one.
    """
    if samples < 2:
        raise WorkError("pollution takes texts of other samples, and the corpus has one sample")
    return (sample + 1 + int(draw * (samples - 1))) % samples
