import numpy as np

from data_pipeline.corpus.regions import Regions
from data_pipeline.detector import drawing
from data_pipeline.detector.storage_report import StorageReport, cosines


def regions() -> Regions:
    return Regions(
        boxes=np.array([[10, 20, 300, 200], [400, 300, 590, 390], [0, 0, 5, 5]], np.float32),
        features=np.array([[1, 2], [0, 0], [3, -4]], np.float32),
        object_ids=np.array([0, 1, 5], np.int16),
        attribute_ids=np.array([1, -1, 0], np.int16),
        object_conf=np.array([0.5, 0.9, 0.1], np.float16),
        attribute_conf=np.array([0.25, 0, 0], np.float16),
    )


def test_the_surest_regions_are_drawn_with_object_attribute_and_confidences() -> None:
    objects, attributes = ["cup", "drum"], ["red", "blue"]
    assert drawing.shown(regions(), drawing.Style(0.2)) == [1, 0]
    assert drawing.shown(regions(), drawing.Style(0.0, most=1)) == [1]
    assert drawing.label(regions(), 0, objects, attributes) == "blue 0.25 / cup 0.50"
    assert drawing.label(regions(), 1, objects, attributes) == "drum 0.90"
    assert drawing.label(regions(), 2, objects, attributes) == "red 0.00 / number 5 0.10"
    image = np.full((400, 600, 3), 128, np.uint8)
    drawn = drawing.draw(image, regions(), objects, attributes)
    assert (image == 128).all()
    changed = (drawn != 128).any(axis=2)
    assert changed[21:200, 10].all()  # the left side of the first box
    assert changed[300:390, 400].all()
    assert not changed[220:290].any()  # nothing between the two boxes
    assert not changed[0:5, 0:5].all()  # too unsure to be drawn


def test_small_images_are_enlarged_and_any_place_is_inside() -> None:
    drawn = drawing.draw(np.zeros((1, 60, 3), np.uint8), regions(), ["cup"], [])
    assert drawn.shape == (8, 480, 3)
    assert drawing.to_png(drawn)[:4] == b"\x89PNG"


def test_cosines_and_bytes_of_the_forms() -> None:
    assert np.allclose(cosines(np.eye(2), np.array([[1.0, 1], [0, 2]])), [0.5**0.5, 1])
    assert cosines(np.zeros((1, 2)), np.zeros((1, 2))) == 1
    report, whole = StorageReport(), StorageReport()
    report.add(regions())
    whole.merge(report.to_json())
    whole.merge(report.to_json())
    assert (whole.images, whole.regions) == (2, 6)
    assert whole.forms["int8"].bytes == 2 * report.forms["int8"].bytes
    assert whole.rows()[0][0] == "float16"
    assert StorageReport().lines() == []
