"""The region that stands for the whole image, by hand."""

import numpy as np
import pytest

from pretrain.batches.whole_image import overlaps, whole_image


def test_the_whole_image_is_made_after_masking_in_three_forms() -> None:
    boxes = np.array(
        [[0, 0, 99, 99], [0, 0, 99, 59], [200, 200, 299, 299], [0, 100, 99, 199]], dtype=np.float32
    )
    # Pixels at both ends count: 6,000 shared of 10,000.
    assert overlaps(boxes, boxes)[0].tolist() == pytest.approx([1, 0.6, 0, 0])
    features = np.array([[0, 0], [2, 4], [6, 2], [1, 3]], dtype=np.float32)
    masked = np.array([0, 3])  # 0 became zero, 3 stayed
    total = [9, 9]
    found = {
        form: whole_image(features, boxes, masked, form).tolist()
        for form in ("as_published", "multi_task", "sound")
    }
    # multi_task counts region 2 alone: 1 overlaps the masked 0, and 3 is masked itself.
    assert found == {
        "as_published": [part / 4 for part in total],
        "multi_task": total,
        "sound": [part / 3 for part in total],
    }
    everything = np.arange(4)
    assert whole_image(features, boxes, everything, "multi_task").tolist() == total
    nothing = np.empty((0, 2), dtype=np.float32), boxes[:0], everything[:0]
    for form in ("as_published", "multi_task", "sound"):
        assert whole_image(*nothing, form).tolist() == [0, 0]
