"""Backgrounds with a sky and a ground; each function draws one, [side, side, 3]."""

import cv2
import numpy as np

from trawl.demo.noise import Colour, Image, clouds, pixels, ramp, rgb

Chance = np.random.Generator
Picture = np.ndarray


def _sky(chance: Chance, side: int, high: Colour, low: Colour) -> Picture:
    """Return a sky with clouds that is `high` at the top and `low` at the middle."""
    down = np.linspace(0, 1.6, side, dtype=np.float32)[:, None]
    image = ramp(np.broadcast_to(np.clip(down, 0, 1), (side, side)), high, low)
    cover = np.clip((clouds(chance, side, 4, 9, octaves=6) - 0.5) * 2.4, 0, 0.9)[..., None]
    puffs = ramp(clouds(chance, side, 12, 16, octaves=5), (186, 194, 206), (246, 246, 246))
    return image * (1 - cover) + puffs * cover


def _receding(field: np.ndarray, horizon: int) -> np.ndarray:
    """Lay a square field down: return its rows below `horizon`, squeezed more the farther away."""
    side = field.shape[0]
    depth = np.linspace(0.06, 1, side - horizon) ** 1.6
    rows = np.clip((depth * (side - 1)).astype(int), 0, side - 1)
    return field[rows]


def _ground(chance: Chance, side: int, horizon: int, *colours: Colour) -> Picture:
    coarse = clouds(chance, side, 24, 24, octaves=5, fade=0.8)
    fine = chance.random((side - horizon, side), dtype=np.float32)
    return ramp(_receding(coarse, horizon) * 0.75 + fine * 0.25, *colours)


def _paste(image: Picture, ground: Picture, edge: np.ndarray) -> Picture:
    """Put `ground` below the line `edge` (a row for each column), its last rows at the bottom."""
    side = image.shape[0]
    rows = np.arange(side)[:, None]
    whole = np.concatenate([np.repeat(ground[:1], side - len(ground), axis=0), ground])
    return np.where((rows >= edge)[..., None], whole, image)


def _ridge(chance: Chance, side: int, base: int, height: int, cells: int) -> np.ndarray:
    """Return the row of a ridge for each column."""
    profile = clouds(chance, side, cells, 1, octaves=6, fade=0.5)[0]
    return (base - profile * height).astype(int)


def field(chance: Chance, side: int) -> Image:
    """Draw a meadow under a cloudy sky, with a line of trees between them."""
    horizon = int(chance.integers(side // 3, side // 2))
    image = _sky(chance, side, (74, 126, 190), (184, 208, 226))
    trees = ramp(clouds(chance, side, 50, 50, octaves=4, fade=0.8), (30, 48, 28), (84, 108, 62))
    image = _paste(image, trees, _ridge(chance, side, horizon, 46, 12))
    meadow = _ground(chance, side, horizon, (58, 84, 30), (108, 134, 54), (160, 172, 88))
    return pixels(_paste(image, meadow, np.full(side, horizon)))


def beach(chance: Chance, side: int) -> Image:
    """Draw sky, sea and sand."""
    horizon = int(chance.integers(side // 4, side // 3))
    shore = horizon + side // 5
    image = _sky(chance, side, (84, 148, 206), (206, 222, 230))
    waves = clouds(chance, side, 6, 40, octaves=4)
    image = _paste(image, ramp(waves, (26, 84, 118), (84, 150, 168)), np.full(side, horizon))
    foam = _ridge(chance, side, shore, 14, 6)
    image = _paste(image, ramp(waves, (206, 220, 222), (244, 246, 244)), foam)
    sand = _ground(chance, side, shore, (168, 140, 100), (208, 182, 140), (232, 212, 176))
    return pixels(_paste(image, sand, foam + 8 + (waves[0] * 10).astype(int)))


def mountains(chance: Chance, side: int) -> Image:
    """Draw two ranges of mountains above a stony valley."""
    horizon = int(chance.integers(side * 2 // 5, side // 2))
    image = _sky(chance, side, (96, 138, 186), (214, 220, 224))
    far = ramp(clouds(chance, side, 10, 14, octaves=6, fade=0.7), (92, 106, 130), (186, 196, 212))
    image = _paste(image, far, _ridge(chance, side, horizon, 190, 4))
    near = ramp(clouds(chance, side, 16, 16, octaves=6, fade=0.7), (44, 60, 58), (110, 124, 112))
    image = _paste(image, near, _ridge(chance, side, horizon, 80, 6))
    valley = _ground(chance, side, horizon, (82, 78, 66), (132, 126, 104), (172, 166, 142))
    return pixels(_paste(image, valley, np.full(side, horizon)))


def night_street(chance: Chance, side: int) -> Image:
    """Draw a street at night: dark houses with lit windows, and lamplight on the road."""
    horizon = int(chance.integers(side // 2, side * 3 // 5))
    down = np.linspace(0, 1, side, dtype=np.float32)[:, None]
    image = ramp(np.broadcast_to(down, (side, side)), (16, 20, 42), (44, 44, 70), (62, 54, 66))
    left = 0
    while left < side:
        right = left + int(chance.integers(60, 130))
        top = int(chance.integers(20, horizon // 2))
        image[top:horizon, left:right] = rgb(34, 32, 44) * chance.uniform(0.7, 1.5)
        _light_windows(chance, image, (left, top, min(right, side), horizon))
        left = right
    road = _ground(chance, side, horizon, (38, 38, 46), (84, 80, 84))
    image = _paste(image, road, np.full(side, horizon))
    glow = np.zeros((side, side), dtype=np.float32)
    for _ in range(7):
        x, y = int(chance.integers(side)), int(chance.integers(horizon - 80, horizon + 90))
        cv2.circle(glow, (x, y), int(chance.integers(10, 26)), 1.0, -1)
    halo = cv2.GaussianBlur(glow, (0, 0), 26) * 1.2 + cv2.GaussianBlur(glow, (0, 0), 5) * 0.35
    lit = image * 1.15 + halo[..., None] * rgb(150, 112, 60)
    rough = clouds(chance, side, 40, 40, octaves=4, fade=0.8)[..., None]
    return pixels(lit * (0.82 + 0.36 * rough) + 4)


def _light_windows(chance: Chance, image: Picture, house: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = house
    for y in range(top + 10, bottom - 22, 26):
        for x in range(left + 8, right - 12, 20):
            lit = chance.random() < 0.35
            colour = rgb(214, 168, 92) if lit else rgb(26, 28, 40)
            image[y : y + 14, x : x + 10] = colour * chance.uniform(0.6, 1.1)
