"""Where regions lie in their image, as the four to seven numbers that the families read."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32]


def locations(
    boxes: Numbers,
    width: npt.ArrayLike,
    height: npt.ArrayLike,
    numbers: Literal[4, 5, 6, 7],
) -> Numbers:
    """Return float32 [regions, numbers], all shares of the image, from pixels x1 y1 x2 y2.

    width, height: of the one image, or [regions]. 4 (LXMERT): x1/W y1/H x2/W y2/H; 5 (ImageBERT,
    ViLBERT): and the share of the area; 6 (Oscar): the four and w/W h/H; 7: the six and the share
    of the area.
    """
    corners = boxes / np.array([width, height, width, height], dtype=np.float32).T
    sides = corners[:, 2:] - corners[:, :2]
    area = sides[:, :1] * sides[:, 1:]
    parts = {4: [corners], 5: [corners, area], 6: [corners, sides], 7: [corners, sides, area]}
    return np.concatenate(parts[numbers], axis=1, dtype=np.float32)
