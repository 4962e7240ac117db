"""Flat backgrounds seen from above or straight on; each function draws one, [side, side, 3]."""

import cv2
import numpy as np
from numpy.typing import NDArray

from trawl.demo.noise import Colour, Image, clouds, pixels, ramp, rgb

Chance = np.random.Generator


def _pick(chance: Chance, *palettes: tuple[Colour, ...]) -> tuple[Colour, ...]:
    return palettes[chance.integers(len(palettes))]


def _grid(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    steps = np.arange(side, dtype=np.float32)
    return np.meshgrid(steps, steps)


def grass(chance: Chance, side: int) -> Image:
    """Draw a lawn."""
    blades = clouds(chance, side, 120, 36, octaves=3, fade=0.8)
    patches = clouds(chance, side, 4, 4)
    image = ramp(blades * 0.7 + patches * 0.3, (34, 58, 18), (76, 112, 38), (138, 164, 74))
    return pixels(image)


def sand(chance: Chance, side: int) -> Image:
    """Draw sand with ripples."""
    dunes = clouds(chance, side, 3, 3, octaves=3)
    _, y = _grid(side)
    ripples = 0.5 + 0.5 * np.sin(y / 7 + dunes * 22)
    fine = chance.random((side, side), dtype=np.float32)
    image = ramp(dunes * 0.45 + ripples * 0.3 + fine * 0.25, (158, 128, 92), (226, 200, 158))
    return pixels(image)


def water(chance: Chance, side: int) -> Image:
    """Draw rippled water with glints."""
    waves = clouds(chance, side, 7, 26, octaves=4, fade=0.6)
    deep: tuple[Colour, ...] = _pick(
        chance,
        ((14, 54, 92), (34, 98, 136), (96, 156, 182)),
        ((10, 66, 78), (28, 112, 118), (102, 170, 166)),
    )
    image = ramp(waves, *deep)
    glints = np.clip((waves - 0.78) * 5, 0, 1)[..., None]
    return pixels(image * (1 - glints) + rgb(222, 236, 240) * glints)


def snow(chance: Chance, side: int) -> Image:
    """Draw trodden snow with blue shadows."""
    drifts = clouds(chance, side, 5, 5, octaves=6, fade=0.62)
    fine = chance.random((side, side), dtype=np.float32)
    return pixels(
        ramp(drifts * 0.85 + fine * 0.15, (158, 174, 202), (222, 228, 238), (250, 250, 252))
    )


def wood(chance: Chance, side: int) -> Image:
    """Draw planks of wood."""
    tones = _pick(
        chance,
        ((92, 58, 34), (146, 100, 62), (186, 140, 94)),
        ((112, 84, 60), (168, 134, 100), (204, 174, 138)),
    )
    fibres = clouds(chance, side, 4, 110, octaves=3, fade=0.7)
    height = int(chance.integers(64, 100))
    y = np.arange(side)
    plank = y // height
    offsets = chance.integers(0, side, plank.max() + 1)
    shades = chance.uniform(-0.16, 0.16, plank.max() + 1).astype(np.float32)
    columns = (np.arange(side)[None, :] + offsets[plank][:, None]) % side
    shifted = np.take_along_axis(fibres, columns, axis=1)
    image = ramp(shifted * 0.75 + 0.12 + shades[plank][:, None], *tones)
    gap = (y % height < 3)[:, None, None]
    return pixels(np.where(gap, image * 0.45, image))


def brick(chance: Chance, side: int) -> Image:
    """Draw a brick wall."""
    x, y = _grid(side)
    row = (y // 32).astype(int)
    shifted = x + (row % 2) * 36
    column = (shifted // 72).astype(int)
    tone = chance.random((row.max() + 1, column.max() + 1), dtype=np.float32)[row, column]
    rough = clouds(chance, side, 50, 50, octaves=4, fade=0.8)
    image = ramp(tone * 0.55 + rough * 0.45, (98, 48, 38), (152, 82, 62), (186, 122, 98))
    mortar = ((y % 32 < 4) | (shifted % 72 < 4))[..., None]
    joint = ramp(rough, (138, 130, 120), (188, 180, 168))
    return pixels(cv2.GaussianBlur(np.where(mortar, joint, image), (0, 0), 0.8))


def tiles(chance: Chance, side: int) -> Image:
    """Draw glazed tiles."""
    size = int(chance.integers(56, 84))
    x, y = _grid(side)
    row, column = (y // size).astype(int), (x // size).astype(int)
    tone = chance.random((row.max() + 1, column.max() + 1), dtype=np.float32)[row, column]
    veins = clouds(chance, side, 14, 14, octaves=5, fade=0.7)
    palette = _pick(
        chance,
        ((150, 168, 172), (212, 220, 218)),
        ((176, 160, 140), (226, 214, 196)),
        ((120, 150, 146), (186, 206, 200)),
    )
    image = ramp(tone * 0.4 + veins * 0.6, *palette)
    grout = ((y % size < 4) | (x % size < 4))[..., None]
    return pixels(np.where(grout, rgb(118, 114, 108) * (0.8 + 0.4 * veins[..., None]), image))


def cloth(chance: Chance, side: int) -> Image:
    """Draw woven cloth with folds."""
    x, y = _grid(side)
    weave = 0.5 + 0.25 * np.sin(x * 1.3) + 0.25 * np.sin(y * 1.3)
    folds = clouds(chance, side, 4, 3, octaves=3, fade=0.4)
    fluff = clouds(chance, side, 90, 90, octaves=2)
    palette = _pick(
        chance,
        ((120, 112, 100), (206, 196, 178)),
        ((52, 82, 88), (128, 164, 166)),
        ((94, 62, 74), (178, 140, 148)),
    )
    return pixels(ramp(folds * 0.6 + weave * 0.2 + fluff * 0.2, *palette))


def gravel(chance: Chance, side: int) -> Image:
    """Draw pebbles: cells around random points, darker towards their edges."""
    count = 2600
    places = chance.integers(0, side, (count, 2))
    seeds = np.full((side, side), 255, dtype=np.uint8)
    seeds[places[:, 1], places[:, 0]] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    tone = chance.random(int(labels.max()) + 1, dtype=np.float32)[labels]
    rough = clouds(chance, side, 60, 60, octaves=3, fade=0.8)
    image = ramp(tone * 0.6 + rough * 0.4, (92, 88, 84), (150, 144, 136), (196, 190, 180))
    return pixels(image * np.clip(1.2 - distance / 13, 0.35, 1.1)[..., None])


def leaves(chance: Chance, side: int) -> Image:
    """Draw a ground of fallen leaves."""
    image = pixels(ramp(clouds(chance, side, 30, 30), (44, 30, 18), (84, 60, 36)))
    colours = (
        (176, 96, 34),
        (198, 132, 48),
        (142, 74, 34),
        (116, 92, 40),
        (158, 58, 34),
        (92, 66, 38),
    )
    for _ in range(1900):
        centre = tuple(int(value) for value in chance.integers(0, side, 2))
        long = int(chance.integers(9, 19))
        angle = float(chance.uniform(0, 360))
        colour = rgb(*colours[chance.integers(len(colours))]) * chance.uniform(0.65, 1.12)
        axes = (long, max(3, long // 2))
        cv2.ellipse(image, centre, axes, angle, 0, 360, colour.tolist(), -1, cv2.LINE_AA)
        cv2.ellipse(
            image, centre, (long, 1), angle, 0, 360, (colour * 0.7).tolist(), 1, cv2.LINE_AA
        )
    rough = clouds(chance, side, 60, 60, octaves=3, fade=0.8)[..., None]
    return pixels(image * (0.75 + 0.45 * rough))


def marble(chance: Chance, side: int) -> Image:
    """Draw polished stone with veins."""
    base = clouds(chance, side, 3, 3, octaves=6, fade=0.6)
    veins = np.abs(clouds(chance, side, 4, 4, octaves=5, fade=0.6) - 0.5) * 2
    palette = _pick(
        chance,
        ((148, 146, 150), (222, 220, 218)),
        ((66, 84, 80), (146, 168, 158)),
        ((150, 122, 110), (222, 200, 184)),
    )
    image = ramp(base, *palette) * np.clip(0.72 + veins * 1.6, 0.72, 1.03)[..., None]
    speckle = chance.normal(0, 5, (side, side, 1)).astype(np.float32)
    return pixels(image + speckle)


def asphalt(chance: Chance, side: int) -> Image:
    """Draw a road surface with cracks."""
    fine = chance.random((side, side), dtype=np.float32)
    patches = clouds(chance, side, 5, 5, octaves=5, fade=0.65)
    image = ramp(fine * 0.4 + patches * 0.6, (64, 64, 68), (128, 126, 126))
    cracks = np.abs(clouds(chance, side, 4, 4, octaves=4) - 0.5) < 0.006
    return pixels(np.where(cracks[..., None], image * 0.5, image))
