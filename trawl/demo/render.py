"""From a scene to pixels: background, shadows, lit objects, grain. A pure function of the scene."""

import cv2
import numpy as np
import simplejpeg

from trawl.chance import generator
from trawl.demo import surfaces
from trawl.demo.noise import Image
from trawl.demo.raster import SOLID, Raster, rasterise
from trawl.demo.scenes import Scene, SceneObject

_DARK_SECOND = {"white", "yellow", "pink", "orange"}
_GRAIN = 0.16
_SHADOW_SCALE = 4


def render(scene: Scene) -> Image:
    """Return the picture of `scene`, RGB uint8 [height, width, 3]."""
    chance = generator(scene.seed, "render", scene.split, scene.index)
    gains, shade, vignette = surfaces.LIGHT_GAINS[scene.light]
    image = _background(chance, scene)
    angle = chance.uniform(0.15, 0.85) * np.pi  # the light comes from above
    towards = (float(np.cos(angle)), -float(np.sin(angle)))
    for item in sorted(scene.objects, key=lambda item: -item.depth):
        raster = rasterise(item.kind, item.pose)
        _cast_shadow(image, item, raster, towards, shade)
        _paint(chance, image, item, raster, towards)
    return _expose(chance, image, gains, vignette)


def encode_jpeg(image: Image, quality: int = 88) -> bytes:
    """Return `image`, RGB uint8 [height, width, 3], as JPEG bytes."""
    return bytes(
        simplejpeg.encode_jpeg(
            np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"
        )
    )


def _background(chance: np.random.Generator, scene: Scene) -> Image:
    """Cut a piece of the background's texture and scale it to the image."""
    texture = surfaces.texture(scene.background, int(chance.integers(surfaces.VARIANTS)))
    longest = max(scene.width, scene.height)
    if scene.background in surfaces.LANDSCAPES:
        zoom = surfaces.SIDE / longest * chance.uniform(0.92, 1.0)
    else:
        zoom = chance.uniform(0.7, min(1.2, surfaces.SIDE / longest))
    columns, rows = int(scene.width * zoom), int(scene.height * zoom)
    x = int(chance.integers(surfaces.SIDE - columns + 1))
    y = int(chance.integers(surfaces.SIDE - rows + 1))
    if scene.background in surfaces.LANDSCAPES:
        y = (surfaces.SIDE - rows) // 2
    piece = texture[y : y + rows, x : x + columns]
    if chance.random() < 0.5:
        piece = piece[:, ::-1]
    size = (scene.width, scene.height)
    return cv2.resize(np.ascontiguousarray(piece), size, interpolation=cv2.INTER_LINEAR)


def _overlap(
    image: Image, x: int, y: int, rows: int, columns: int
) -> tuple[slice, slice, slice, slice]:
    """Return the rows and columns of the image, then of a patch at x, y, where both are."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + rows, image.shape[0]), min(x + columns, image.shape[1])
    return (
        slice(top, max(bottom, top)),
        slice(left, max(right, left)),
        slice(top - y, max(bottom, top) - y),
        slice(left - x, max(right, left) - x),
    )


def _cast_shadow(
    image: Image,
    item: SceneObject,
    raster: Raster,
    towards: tuple[float, float],
    strength: float,
) -> None:
    """Darken the image softly where the object keeps the light away."""
    reach = item.pose.length * 0.07
    margin = int(reach * 2) + 4
    rows, columns = raster.alpha.shape
    small = cv2.resize(
        raster.alpha,
        (max(columns // _SHADOW_SCALE, 1), max(rows // _SHADOW_SCALE, 1)),
        interpolation=cv2.INTER_AREA,
    )
    edge = margin // _SHADOW_SCALE + 1
    padded = cv2.copyMakeBorder(small, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    soft = cv2.GaussianBlur(padded, (0, 0), max(reach / _SHADOW_SCALE * 0.6, 0.8))
    grown = edge * _SHADOW_SCALE
    size = (columns + 2 * grown, rows + 2 * grown)
    keep = cv2.resize(cv2.convertScaleAbs(soft, alpha=-strength, beta=0), size)
    x = item.pose.x - grown - int(towards[0] * reach)
    y = item.pose.y - grown - int(towards[1] * reach)
    there = _overlap(image, x, y, size[1], size[0])
    target = image[there[0], there[1]]
    if target.size == 0:
        return
    keep3 = cv2.cvtColor(255 - keep[there[2], there[3]], cv2.COLOR_GRAY2RGB)
    image[there[0], there[1]] = cv2.multiply(target, keep3, scale=1 / 255)


def _paint(
    chance: np.random.Generator,
    image: Image,
    item: SceneObject,
    raster: Raster,
    towards: tuple[float, float],
) -> None:
    """Lay the lit object over the image."""
    colour = _colour_in(chance, item, raster)
    lit = _shade(chance, item, raster, colour, towards)
    rows, columns = raster.alpha.shape
    there = _overlap(image, item.pose.x, item.pose.y, rows, columns)
    away = cv2.cvtColor(255 - raster.alpha[there[2], there[3]], cv2.COLOR_GRAY2RGB)
    behind = cv2.multiply(image[there[0], there[1]], away, scale=1 / 255)
    image[there[0], there[1]] = cv2.add(behind, lit[there[2], there[3]])


def _colour_in(chance: np.random.Generator, item: SceneObject, raster: Raster) -> Image:
    """Return the object in its colour and pattern, multiplied by alpha, [rows, columns, 3]."""
    wobble = chance.normal(0, 7, 3)
    first = np.clip(np.array(surfaces.COLOURS[item.colour]) + wobble, 8, 250)
    mixing = np.zeros((3, 4), dtype=np.float32)
    mixing[:, 0] = first / 255
    mixing[:, 1:] = np.eye(3)
    if item.pattern == "plain":
        return cv2.transform(raster.paint, mixing)
    second = np.array([64, 60, 84] if item.colour in _DARK_SECOND else [238, 232, 220])
    period = max(item.pose.length * chance.uniform(0.13, 0.19), 9.0)
    turn = chance.choice([0, 45, 90, 135]) if item.pattern == "striped" else chance.choice([0, 45])
    rows, columns = raster.alpha.shape
    zoom = 32 / period
    cos, sin = np.cos(np.deg2rad(turn)) * zoom, np.sin(np.deg2rad(turn)) * zoom
    middle = surfaces.SIDE / 2
    warp = np.array(
        [
            [cos, sin, middle - cos * columns / 2 - sin * rows / 2],
            [-sin, cos, middle + sin * columns / 2 - cos * rows / 2],
        ]
    )
    tile = cv2.warpAffine(
        surfaces.pattern_tile(item.pattern),
        warp,
        (columns, rows),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )
    paint = raster.paint.copy()
    weight = np.ascontiguousarray(paint[..., 0])
    shown = cv2.multiply(weight, tile, scale=1 / 255)
    paint[..., 0] = weight - shown
    over = cv2.transform(shown, (second / 255).astype(np.float32).reshape(3, 1))
    return cv2.add(cv2.transform(paint, mixing), over)


def _shade(
    chance: np.random.Generator,
    item: SceneObject,
    raster: Raster,
    colour: Image,
    towards: tuple[float, float],
) -> Image:
    """Light the object as if it bulged towards the viewer, and roughen its surface."""
    solid = (raster.alpha >= SOLID).view(np.uint8)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    round_to = item.pose.length * 0.13
    bulge = cv2.blur(np.sqrt(np.minimum(distance / round_to, 1)), (5, 5))
    slope_x = cv2.Sobel(bulge, cv2.CV_32F, 1, 0, ksize=3)
    slope_y = cv2.Sobel(bulge, cv2.CV_32F, 0, 1, ksize=3)
    strength = item.pose.length * 0.035
    light = cv2.addWeighted(slope_x, -towards[0] * strength, slope_y, -towards[1] * strength, 0)
    light = np.clip(light, -0.5, 0.6)
    rows, columns = light.shape
    fall = np.linspace(1.10, 0.86, rows, dtype=np.float32)[:, None]
    x, y = chance.integers(0, surfaces.SIDE - max(rows, columns), 2)
    rough = surfaces.material()[y : y + rows, x : x + columns]
    gain = cv2.multiply((light + fall), rough, scale=1.0, dtype=cv2.CV_8U)
    return cv2.multiply(colour, cv2.cvtColor(gain, cv2.COLOR_GRAY2RGB), scale=1 / 128)


def _expose(
    chance: np.random.Generator,
    image: Image,
    gains: tuple[float, float, float],
    vignette: float,
) -> Image:
    """Give the whole image its light: colour, uneven brightness, dark corners, grain."""
    height, width = image.shape[:2]
    across, down = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24))
    slope = chance.normal(0, 0.07, 2)
    bright = 1 - vignette * (across**2 + down**2) / 2 + slope[0] * across + slope[1] * down
    wobble = 1 + chance.normal(0, 0.03, 3)
    field = bright[..., None] * (np.array(gains) * wobble * 128)
    gain = cv2.resize(np.clip(field, 0, 255).astype(np.uint8), (width, height))
    image = cv2.multiply(image, gain, scale=1 / 128)
    x, y = chance.integers(0, surfaces.SIDE - max(width, height), 2)
    noise = surfaces.grain()[y : y + height, x : x + width]
    return cv2.addWeighted(image, 1.0, noise, _GRAIN, -128 * _GRAIN)
