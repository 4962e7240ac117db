"""What scenes stand in front of: textured backgrounds, the grain of materials, and light.

Every texture is a pure function of its name and variant and is kept once it is made.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from trawl.chance import generator
from trawl.demo import landscapes, textures
from trawl.demo.noise import Image, clouds

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (196, 36, 40),
    "orange": (238, 124, 30),
    "yellow": (240, 208, 52),
    "green": (44, 140, 64),
    "blue": (44, 88, 196),
    "purple": (124, 58, 156),
    "pink": (242, 138, 180),
    "brown": (112, 68, 40),
    "black": (40, 40, 46),
    "white": (240, 240, 236),
}
"""Red, green and blue of each colour; a colour's place here is its attribute id."""

PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")

SIDE = 640
"""The height and width of a texture in pixels."""
VARIANTS = 3

_TEXTURES: dict[str, Callable[[np.random.Generator, int], Image]] = {
    "grass": textures.grass,
    "sand": textures.sand,
    "water": textures.water,
    "snow": textures.snow,
    "wood": textures.wood,
    "brick": textures.brick,
    "tiles": textures.tiles,
    "cloth": textures.cloth,
    "gravel": textures.gravel,
    "leaves": textures.leaves,
    "marble": textures.marble,
    "asphalt": textures.asphalt,
    "field": landscapes.field,
    "beach": landscapes.beach,
    "mountains": landscapes.mountains,
    "night street": landscapes.night_street,
}
LANDSCAPES = ("field", "beach", "mountains", "night street")
"""Backgrounds with a sky, which are always shown whole and upright."""

BACKGROUNDS: tuple[str, ...] = tuple(_TEXTURES)

AVOIDED_COLOURS: dict[str, tuple[str, ...]] = {
    "grass": ("green",),
    "sand": ("yellow",),
    "water": ("blue",),
    "snow": ("white",),
    "wood": ("brown",),
    "brick": ("red", "brown"),
    "tiles": ("white",),
    "leaves": ("orange", "brown"),
    "marble": ("white",),
    "asphalt": ("black",),
    "field": ("green",),
    "night street": ("black", "blue"),
}
"""Colours in which an object would be lost on a background."""

LIGHTS: tuple[str, ...] = ("daylight", "sunshine", "evening", "morning", "overcast", "dim")

# Red, green and blue gain, how strong shadows are, how strongly the corners darken.
LIGHT_GAINS: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "daylight": ((1.0, 1.0, 1.0), 0.45, 0.18),
    "sunshine": ((1.10, 1.07, 1.0), 0.6, 0.12),
    "evening": ((1.10, 0.97, 0.80), 0.55, 0.30),
    "morning": ((0.93, 0.99, 1.08), 0.40, 0.20),
    "overcast": ((0.92, 0.94, 0.96), 0.25, 0.15),
    "dim": ((0.86, 0.84, 0.87), 0.45, 0.34),
}


@lru_cache(maxsize=len(_TEXTURES) * VARIANTS)
def texture(background: str, variant: int) -> Image:
    """Return the texture of a background, uint8 [SIDE, SIDE, 3], read-only."""
    image = _TEXTURES[background](generator("surface", background, variant), SIDE)
    image.setflags(write=False)
    return image


@lru_cache(maxsize=1)
def grain() -> Image:
    """Return the noise of a camera's sensor around 128, uint8 [SIDE, SIDE, 3]."""
    chance = generator("grain")
    white = chance.normal(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(white, (0, 0), 0.7)
    image = np.clip(128 + noise * (32 / noise.std()), 0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


@lru_cache(maxsize=1)
def material() -> Image:
    """Return the unevenness of things' own surfaces around 128, uint8 [SIDE, SIDE]."""
    chance = generator("material")
    coarse = clouds(chance, SIDE, 24, 24, octaves=5, fade=0.75)
    image = np.clip(128 + (coarse - 0.5) * 72, 0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


@lru_cache(maxsize=4)
def pattern_tile(pattern: str) -> Image:
    """Return 255 where `pattern` shows its second colour, uint8 [SIDE, SIDE], period 32 pixels."""
    steps = np.arange(SIDE) * (2 * np.pi / 32)
    across, down = np.meshgrid(steps, steps)
    if pattern == "striped":
        value = np.sin(across) - 0.15
    elif pattern == "dotted":
        value = np.cos(across) + np.cos(down) - 0.85
    else:
        value = np.sin(across) * np.sin(down)
    image = np.clip(128 + value * 900, 0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image
