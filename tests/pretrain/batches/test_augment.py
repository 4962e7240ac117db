"""Changes of images: crops over 1e5 draws, each operation by hand, and what is drawn how often."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from pretrain.batches.augment import (
    DEVIATION,
    MEAN,
    augmented,
    crop_around,
    cropped,
    normalised,
    random_augment,
    random_crop,
    resized,
)
from trawl.chance import generator

DRAWS = 100_000


def picture(side: int = 24) -> np.ndarray:
    """A smooth picture with some noise, neither black nor white."""
    y, x = np.mgrid[:side, :side] / side
    noise = generator("picture").integers(0, 30, (side, side, 3))
    waves = np.stack([90 + 80 * x, 60 + 100 * y, 120 + 60 * x * y], axis=-1)
    return (waves + noise).astype(np.uint8)


def test_random_crops_have_the_published_areas_and_aspects() -> None:
    chance = generator("crops")
    boxes = np.array([random_crop(640, 480, chance) for _ in range(DRAWS)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 640
    assert boxes[:, 3].max() <= 480
    areas, aspects = width * height / (640 * 480), width / height
    assert areas.min() == pytest.approx(0.2, abs=0.005)
    assert areas.max() == pytest.approx(1.0, abs=0.02)
    assert (aspects.min(), aspects.max()) == pytest.approx((3 / 4, 4 / 3), abs=0.01)
    # Small ones always fit, so among them the aspect is evenly spread on a logarithmic scale.
    logarithms = np.log(aspects[areas < 0.4])
    assert logarithms.mean() == pytest.approx(0, abs=0.01)
    assert logarithms.std() == pytest.approx(np.log(16 / 9) / np.sqrt(12), rel=0.02)
    free = 640 - width
    shares = boxes[free > 0, 0] / free[free > 0]
    assert shares.mean() == pytest.approx(0.5, abs=0.01)
    large = [random_crop(640, 480, chance, least=0.8) for _ in range(1000)]
    assert all((box[2] - box[0]) * (box[3] - box[1]) > 0.79 * 640 * 480 for box in large)


def test_a_crop_that_never_fits_is_the_middle() -> None:
    assert random_crop(1000, 2, generator("thin"))[1::2] == (0, 2)
    left, _, right, _ = random_crop(1000, 2, generator("thin"))
    assert right - left == 3
    assert left == 498
    assert random_crop(2, 1000, generator("tall")) == (0, 498, 2, 501)


def test_crops_around_a_box_hold_it_and_reach_every_edge() -> None:
    chance = generator("around")
    boxes = np.array([crop_around((10, 0, 30, 50), 40, 60, chance) for _ in range(DRAWS)])
    for side, low, high in ((0, 0, 10), (1, 0, 0), (2, 30, 40), (3, 50, 60)):
        counts = Counter(boxes[:, side].tolist())
        assert sorted(counts) == list(range(low, high + 1))
        assert max(counts.values()) / min(counts.values()) < 1.1


def test_operations_match_pillow() -> None:
    image = picture()
    pillow = Image.fromarray(image)
    assert np.array_equal(augmented(image, "identity"), image)
    for name, expected in (
        ("auto-contrast", ImageOps.autocontrast(pillow)),
        ("equalize", ImageOps.equalize(pillow)),
        ("brightness", ImageEnhance.Brightness(pillow).enhance(1.36)),
    ):
        difference = augmented(image, name).astype(int) - np.asarray(expected).astype(int)
        assert np.abs(difference).max() <= 1, name
    sharp = np.asarray(ImageEnhance.Sharpness(pillow).enhance(1.36)).astype(int)
    inner = (slice(1, -1), slice(1, -1))
    found = augmented(image, "sharpness").astype(int)
    assert np.abs(found - sharp)[inner].max() <= 1
    assert np.array_equal(found[0], image[0])


def test_sharpness_does_not_wrap_around() -> None:
    image = np.zeros((9, 9, 3), dtype=np.uint8)
    image[:, 5:] = 255
    sharp = augmented(image, "sharpness")
    assert (sharp[4, 4, 0], sharp[4, 5, 0]) == (0, 255)


def test_moves_move_as_far_as_published() -> None:
    image = np.zeros((41, 41, 3), dtype=np.uint8)
    image[20, 20] = 200
    right, left = augmented(image, "translate-x"), augmented(image, "translate-x", -1)
    # A shift of the picture by -7 in the map from source to target.
    assert {int(np.argmax(part[20, :, 0])) for part in (right, left)} == {13, 27}
    down = augmented(image, "translate-y")
    assert int(np.argmax(down[:, 20, 0])) in (13, 27)
    assert tuple(right[0, 40]) == (128, 128, 128)
    slanted = augmented(np.full((41, 41, 3), 50, dtype=np.uint8), "shear-x")
    grey = (slanted == 128).all(axis=2)
    assert grey[40].sum() == pytest.approx(0.21 * 40, abs=1)
    assert not grey[0].any()
    turned = augmented(np.full((41, 41, 3), 50, dtype=np.uint8), "rotate")
    assert (turned[0, 0] == 128).all()
    assert (turned[20, 20] == 50).all()


def test_two_of_ten_operations_happen_half_of_the_time() -> None:
    image = picture(20)
    changed = {True: 0, False: 0}
    count = 4000
    for geometry in changed:
        for seed in range(count):
            after = random_augment(image, generator("augment", seed), geometry)
            changed[geometry] += int(not np.array_equal(after, image))
    # An operation happens with 0.5, and is the identity with 0.1, or 0.2 without moves.
    assert changed[True] / count == pytest.approx(1 - (1 - 0.5 * 0.9) ** 2, abs=0.03)
    assert changed[False] / count == pytest.approx(1 - (1 - 0.5 * 0.8) ** 2, abs=0.03)


def test_without_geometry_nothing_moves() -> None:
    image = np.full((16, 16, 3), 90, dtype=np.uint8)
    for seed in range(300):
        after = random_augment(image, generator("still", seed), geometry=False)
        assert (after == after[0, 0]).all()
        unchanged = random_augment(picture(6), generator("still", seed), operations=0)
        assert np.array_equal(unchanged, picture(6))


def test_pixels_are_normalised_as_clip_does() -> None:
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    image[0, 1] = 255
    values = normalised(image)
    assert values.shape == (3, 2, 3)
    assert values.dtype == np.float32
    assert np.allclose(values[:, 0, 0], -MEAN / DEVIATION)
    assert np.allclose(values[:, 0, 1], (1 - MEAN) / DEVIATION)


def test_crops_and_sizes() -> None:
    image = picture()
    assert np.array_equal(cropped(image, (2, 3, 10, 9)), image[3:9, 2:10])
    assert resized(image, 12).shape == (12, 12, 3)
    assert np.array_equal(resized(image, 24), image)
