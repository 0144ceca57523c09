"""The nineteen corruptions once more, one image at a time: plain NumPy, SciPy, Pillow and OpenCV.

This is the published definition (Hendrycks & Dietterich, 2019, arXiv:1903.12261) as directly as it
can be written, with the libraries that the published code calls, to hold the batched functions of
`corruptions` against. It shares nothing with them but the tables of constants. Every function
takes one uint8 image (height, width, 3), the constants and a generator, and returns grey levels
from 0 to 255 that are not yet whole numbers.
"""

import io
import os
from collections.abc import Callable
from functools import cache
from math import ceil, cos, radians, sin
from pathlib import Path

import cv2
import numpy as np
from numpy.random import RandomState
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from corruptions import CORRUPTIONS

Array = np.ndarray
Function = Callable[[Array, object, RandomState], Array]

ORACLE: dict[str, Function] = {}


def corrupted(image: Array, name: str, severity: int, random: RandomState) -> Array:
    """Corrupt one uint8 image (side, side, 3) of 32, 64 or 224 pixels."""
    constants = CORRUPTIONS[name].severities[len(image)][severity - 1]
    levels = ORACLE[name](image, constants, random)
    return np.clip(levels, 0, 255).astype(np.uint8)  # truncates, as the published code does


def oracle(function: Function) -> Function:
    ORACLE[function.__name__] = function
    return function


def shades(values: Array) -> Array:
    """Turn intensities in [0, 1] into grey levels."""
    return np.clip(values, 0, 1) * 255


# --- noise


@oracle
def gaussian_noise(image, deviation, random):
    return shades(image / 255 + random.normal(scale=deviation, size=image.shape))


@oracle
def shot_noise(image, photons, random):
    return shades(random.poisson(image / 255 * photons) / photons)


@oracle
def impulse_noise(image, amount, random):
    hit = random.uniform(size=image.shape) <= amount
    salt = random.uniform(size=image.shape) <= 0.5
    return np.where(hit, np.where(salt, 255, 0), image)


@oracle
def speckle_noise(image, deviation, random):
    clean = image / 255
    return shades(clean + clean * random.normal(scale=deviation, size=image.shape))


# --- blur


@oracle
def gaussian_blur(image, sigma, random):
    return shades(smooth(image / 255, sigma))


def smooth(values: Array, sigma: float) -> Array:
    """Blur rows and columns, not channels; the outermost pixels go on beyond the edge."""
    sigmas = (sigma, sigma, 0)[: values.ndim]
    return gaussian_filter(values, sigmas, mode="nearest", truncate=4)


@oracle
def defocus_blur(image, constants, random):
    return shades(cv2.filter2D(image / 255, -1, aperture(*constants)))


def aperture(radius: float, softness: float) -> Array:
    """Weigh the pixels inside a circle equally, and soften its edge."""
    reach, window = (8, 3) if radius <= 8 else (radius, 5)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = (rows**2 + columns**2 <= radius**2).astype(np.float32)
    return cv2.GaussianBlur(inside / inside.sum(), (window, window), sigmaX=softness)


@oracle
def glass_blur(image, constants, random):
    sigma, reach, times = constants
    pixels = shades(smooth(image / 255, sigma)).astype(np.uint8)
    for _ in range(times):
        pixels = displaced(pixels, reach, random)
    return shades(smooth(pixels / 255, sigma))


def displaced(pixels: Array, reach: int, random: RandomState) -> Array:
    """Copy a neighbour into each inner pixel, from the last pixel to the first.

    A neighbour is -reach, ..., reach - 1 pixels away along each axis.
    """
    inner = np.arange(len(pixels) - reach, reach, -1)
    steps = random.randint(-reach, reach, size=(len(inner), len(inner), 2))
    rows = inner[:, None] + steps[..., 1]
    columns = inner[None, :] + steps[..., 0]
    result = pixels.copy()
    if reach == 1:  # neighbours lie before the pixel: none has been overwritten yet
        result[np.ix_(inner, inner)] = pixels[rows, columns]
        return result
    for i, row in enumerate(inner):
        for j, column in enumerate(inner):
            result[row, column] = result[rows[i, j], columns[i, j]]
    return result


@oracle
def motion_blur(image, constants, random):
    return dragged(image, *constants, angle=random.uniform(-45, 45))


def dragged(pixels: Array, radius: int, sigma: float, angle: float) -> Array:
    """Blur to one side, along a line, as ImageMagick does: half a Gaussian on whole pixels.

    ImageMagick computes in 16 bits and then drops what is no whole level of 8 bits.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    total = np.zeros(pixels.shape)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down = ceil(step * sin(radians(angle)) - 0.5)
        right = ceil(step * cos(radians(angle)) - 0.5)
        rows = np.clip(np.arange(pixels.shape[0]) + down, 0, pixels.shape[0] - 1)
        columns = np.clip(np.arange(pixels.shape[1]) + right, 0, pixels.shape[1] - 1)
        total += weight * pixels[rows][:, columns]
    return np.floor(total + 0.5 / 257)


@oracle
def zoom_blur(image, constants, random):
    clean = (image / 255).astype(np.float32)
    factors = np.arange(1, *constants)
    total = np.zeros_like(clean)
    for factor in factors:
        total += enlarged(clean, factor)
    return shades((clean + total) / (len(factors) + 1))


def enlarged(values: Array, factor: float) -> Array:
    """Enlarge the middle of a square to the whole of it."""
    side = len(values)
    kept = ceil(side / factor)
    start = (side - kept) // 2
    middle = values[start : start + kept, start : start + kept]
    grown = zoom(middle, (factor, factor, 1)[: values.ndim], order=1)
    start = (len(grown) - side) // 2
    return grown[start : start + side, start : start + side]


# --- weather


@oracle
def snow(image, constants, random):
    mean, deviation, factor, threshold, radius, sigma, kept = constants
    flakes = enlarged(random.normal(mean, deviation, image.shape[:2]), factor)
    flakes[flakes < threshold] = 0
    angle = random.uniform(-135, -45)
    fallen = dragged(shades(flakes).astype(np.uint8), radius, sigma, angle)[..., None] / 255
    clean = (image / 255).astype(np.float32)
    grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = kept * clean + (1 - kept) * np.maximum(clean, 1.5 * grey + 0.5)
    return shades(whitened + fallen + np.rot90(fallen, 2))


@oracle
def frost(image, constants, random):
    image_weight, frost_weight, shrink = constants
    photograph = photographs(os.environ["SELBENCH_FROST"], shrink)[random.randint(5)]
    top, left = (random.randint(0, size - len(image)) for size in photograph.shape[:2])
    piece = photograph[top : top + len(image), left : left + len(image)]
    return image_weight * image + frost_weight * piece


@cache
def photographs(folder: str, shrink: float) -> list[Array]:
    """Read the five photographs that are overlaid, shrunken, as RGB."""
    found = []
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        pixels = cv2.imread(str(Path(folder) / name))[..., ::-1]
        found.append(pixels if shrink == 1 else cv2.resize(pixels, None, fx=shrink, fy=shrink))
    return found


@oracle
def fog(image, constants, random):
    weight, decay = constants
    clean = image / 255
    brightest = clean.max()
    clouds = plasma(len(image), decay, random)[..., None]
    return shades((clean + weight * clouds) * brightest / (brightest + weight))


def plasma(side: int, decay: float, random: RandomState) -> Array:
    """Draw clouds in [0, 1] by the diamond-square algorithm, on a torus."""
    whole = 2 ** ceil(np.log2(side))
    heights = np.zeros((whole, whole))
    step, roughness = whole, 100.0

    def wobbling(total: Array) -> Array:
        return total / 4 + roughness * random.uniform(-roughness, roughness, total.shape)

    while step > 1:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = wobbling(pairs + np.roll(pairs, -1, 1))
        centres = heights[half::step, half::step]
        for axis, places in enumerate([np.s_[::step, half::step], np.s_[half::step, ::step]]):
            beside = corners + np.roll(corners, -1, 1 - axis)
            heights[places] = wobbling(centres + np.roll(centres, 1, axis) + beside)
        step, roughness = half, roughness / decay
    heights -= heights.min()
    return (heights / heights.max())[:side, :side]


@oracle
def brightness(image, added, random):
    hue, saturation, value = to_hsv(image / 255)
    return shades(from_hsv(hue, saturation, np.clip(value + added, 0, 1)))


@oracle
def spatter(image, constants, random):
    mean, deviation, sigma, threshold, strength, kind = constants
    liquid = smooth(random.normal(mean, deviation, image.shape[:2]), sigma)
    liquid[liquid < threshold] = 0
    clean = (image / 255).astype(np.float32)
    if kind == "water":
        turquoise = np.float32([175, 238, 238]) / 255
        return shades(clean + strength * drops(liquid)[..., None] * turquoise)
    mud = smooth((liquid > threshold).astype(np.float32), strength)[..., None]
    mud[mud < 0.8] = 0
    brown = np.float32([63, 42, 20]) / 255
    return shades(clean * (1 - mud) + brown * mud)


def drops(liquid: Array) -> Array:
    """Shade drops of water by the distance from their outlines; the brightest is 1."""
    levels = (liquid * 255).astype(np.int64).astype(np.uint8)  # above 1 it wraps, as published
    outlines = cv2.Canny(levels, 50, 150)
    distance = np.minimum(cv2.distanceTransform(255 - outlines, cv2.DIST_L2, 5), 20)
    distance = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    embossed = cv2.filter2D(distance, -1, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    relief = levels * cv2.blur(embossed, (3, 3)).astype(np.float32)
    return relief / max(relief.max(), np.float32(1))


# --- digital


@oracle
def contrast(image, factor, random):
    clean = image / 255
    means = clean.mean(axis=(0, 1))
    return shades((clean - means) * factor + means)


@oracle
def elastic_transform(image, constants, random):
    strength, sigma, jitter = constants
    height, width = image.shape[:2]
    tilted = tilt((image / 255).astype(np.float32), jitter, random)
    shifts = [waves((height, width), strength, sigma, random) for _ in "xy"]
    rows, columns, channels = np.mgrid[:height, :width, :3]
    places = rows + shifts[1][..., None], columns + shifts[0][..., None], channels
    return shades(map_coordinates(tilted, places, order=1, mode="reflect"))


def tilt(values: Array, jitter: float, random: RandomState) -> Array:
    """Move three points about the middle at random, and the image with them."""
    size = np.array(values.shape[:2])
    middle, third = size // 2, size.min() // 3
    signs = np.array([[1, 1], [1, -1], [-1, -1]])
    points = (middle + third * signs).astype(np.float32)
    moved = points + random.uniform(-jitter, jitter, (3, 2)).astype(np.float32)
    matrix = cv2.getAffineTransform(points, moved)
    return cv2.warpAffine(values, matrix, size[::-1].tolist(), borderMode=cv2.BORDER_REFLECT_101)


def waves(shape: tuple[int, int], strength: float, sigma: float, random: RandomState) -> Array:
    field = random.uniform(-1, 1, shape)
    smoothed = gaussian_filter(field, sigma, mode="reflect", truncate=3)
    return (strength * smoothed).astype(np.float32)


@oracle
def pixelate(image, scale, random):
    side = len(image)
    small = Image.fromarray(image).resize((int(side * scale),) * 2, Image.Resampling.BOX)
    return np.asarray(small.resize((side, side), Image.Resampling.BOX))


@oracle
def jpeg_compression(image, quality, random):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@oracle
def saturate(image, constants, random):
    factor, added = constants
    hue, saturation, value = to_hsv(image / 255)
    return shades(from_hsv(hue, np.clip(saturation * factor + added, 0, 1), value))


def to_hsv(rgb: Array) -> tuple[Array, Array, Array]:
    """Return hue, saturation and value, each in [0, 1]."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    value = rgb.max(-1)
    chroma = value - rgb.min(-1)
    divisor = np.where(chroma == 0, 1, chroma)
    hue = np.where(value == red, (green - blue) / divisor, 0)
    hue = np.where(value == green, 2 + (blue - red) / divisor, hue)
    hue = np.where(value == blue, 4 + (red - green) / divisor, hue)
    hue[chroma == 0] = 0
    return hue / 6 % 1, chroma / np.where(value == 0, 1, value), value


def from_hsv(hue: Array, saturation: Array, value: Array) -> Array:
    sixth = np.floor(6 * hue)
    rest = 6 * hue - sixth
    low, falling = value * (1 - saturation), value * (1 - rest * saturation)
    rising = value * (1 - (1 - rest) * saturation)
    by_sixth = (
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    )
    choices = [np.stack(channels, -1) for channels in by_sixth]
    return np.choose(sixth.astype(int)[..., None] % 6, choices)
