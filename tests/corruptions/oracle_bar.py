"""The fifteen corruptions of CIFAR-10-C-bar and ImageNet-C-bar once more, one image at a time.

The published definition (Mintun, Kirillov & Xie, 2021, arXiv:2102.11273) in plain NumPy and SciPy,
to hold the batched functions of `corruptions` against. `DRAWS` makes the published random numbers
of an image, in the order in which ours ask for them; `ORACLE_BAR` makes of one uint8 image
(side, side, 3), the published severity and those draws grey levels that are not yet whole numbers.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from scipy.ndimage import gaussian_filter, rotate, zoom

from corruptions import CORRUPTIONS

Array = np.ndarray

DRAWS: dict[str, Callable[[int, float, RandomState], list[Array]]] = {}
ORACLE_BAR: dict[str, Callable[..., Array]] = {}
_MOST_RAYS = 199
_CELLS = 40  # of a side of ours' grid of tiles


def corrupted_bar(image: Array, name: str, severity: int, random: RandomState) -> Array:
    """Corrupt one uint8 image (side, side, 3) of 32, 64 or 224 pixels."""
    constant = CORRUPTIONS[name].severities[len(image)][severity - 1]
    drawn = DRAWS[name](len(image), constant, random)
    levels = ORACLE_BAR[name](image, constant, *drawn)
    return np.clip(levels, 0, 255).astype(np.uint8)


def drawn(function):
    DRAWS[function.__name__.removeprefix("draw_")] = function
    return function


def oracle(function):
    ORACLE_BAR[function.__name__] = function
    return function


def nothing(side, level, random):
    return []


def inner(random: RandomState) -> RandomState:
    """Start the generator that the published code seeds inside of a transform."""
    return RandomState(random.randint(0, 2**32, dtype=np.int64))


def grid(side: int) -> tuple[Array, Array]:
    """Return each pixel's row and column."""
    rows, columns = np.mgrid[:side, :side]
    return rows, columns


def sampled(image: Array, rows: Array, columns: Array) -> Array:
    """Interpolate between four pixels; beyond the image all is black."""
    side = len(image)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)

    def pixel(row, column):
        inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
        return np.where(
            inside[..., None], image[row.clip(0, side - 1), column.clip(0, side - 1)], 0
        )

    def mixed(row):
        here, next_ = 1 - columns + left, 1 - (left + 1) + columns
        return pixel(row, left) * here[..., None] + pixel(row, left + 1) * next_[..., None]

    upper, lower = 1 - rows + top, 1 - (top + 1) + rows
    return mixed(top) * upper[..., None] + mixed(top + 1) * lower[..., None]


# --- noise


@drawn
def draw_single_frequency_greyscale(side, level, random):
    one = random.uniform(-np.pi, np.pi)
    other = random.uniform(-abs(one), abs(one))
    order = random.permutation(2)
    return [one, other / abs(one), order[0], random.uniform(0, 2 * np.pi)]


@oracle
def single_frequency_greyscale(image, level, one, share, swapped, phase):
    rows, columns = grid(len(image))
    pair = (one, share * abs(one))
    across, down = pair[::-1] if swapped else pair
    wave = np.sin(columns * across + rows * down + phase)
    return image + level * 196 / 10 * wave[..., None]


@drawn
def draw_cocentric_sine_waves(side, level, random):
    middle = random.uniform(0, side, 2)[::-1]
    rest = [random.uniform(0, high) for high in (10, side / 10, side / 10)]
    return [middle / side, rest[0], *(each / (side / 10) for each in rest[1:])]


@oracle
def cocentric_sine_waves(image, level, middle, waves, amplitude, width):
    side = len(image)
    rows, columns = grid(side)
    row, column = middle * side
    amplitude, width = amplitude * (side / 10), width * (side / 10)
    angle = np.arctan2(columns - column, rows - row) * waves
    distance = np.sqrt((columns - column) ** 2 + (rows - row) ** 2) + np.sin(angle) * amplitude
    ring = (distance % width) / width - 1 / 2
    return image + level * 128 / 10 * ring[..., None]


@drawn
def draw_plasma_noise(side, level, random):
    time = random.uniform(0, 6 * np.pi)
    return [time, random.randint(4, 7), random.uniform(0.5, 1), random.uniform(0.075, 0.2)]


@oracle
def plasma_noise(image, level, time, iterations, sharpness, scale):
    rows, columns = grid(len(image))
    x, y = columns / (scale * len(image)), rows / (scale * len(image))
    zoomed, slowed, damped = 1.0, 1.0, 1.0
    for _ in range(iterations):
        down = np.cos(y * zoomed + time / slowed) / damped
        across = np.sin(x * zoomed + time / slowed) / damped
        x, y = x + (down - 0.3 * across), y + (across + 0.3 * down)
        zoomed, slowed, damped = zoomed * 1.93, slowed * 1.15, damped * (2.25 - sharpness)
    red, blue = np.sin(x - time), np.sin(y + time)
    green = np.sin((x + y + np.sin(time)) * 0.5)
    strength = level * 64 / 10
    return (1 - strength / 255) * image + strength * np.stack([red, green, blue], axis=-1)


@drawn
def draw_sparkles(side, level, random):
    middles = random.uniform(0, side, (5, 2))
    lengths = inner(random)
    rays = random.randint(50, 200, 5)
    padded = [np.pad(lengths.randn(n), (0, _MOST_RAYS - n)) for n in rays]
    return [middles / side, rays, np.stack(padded)]


@oracle
def sparkles(image, level, middles, rays, spread):
    side = len(image)
    radius = level * 0.1 / 10 * side
    for middle, count, each in zip(middles * side, rays, spread, strict=True):
        image = image.astype(np.float32)
        lengths = np.maximum(1, radius + 0.25 * radius * each[:count])
        light = star(side, middle, lengths, 1.0)[..., None]
        image = image + light * (255 - image.astype(float))
    return image


def star(side: int, middle: Array, lengths: Array, power: float) -> Array:
    """Return how bright each pixel is, from 0 to 1, near a light with rays of these lengths."""
    rows, columns = grid(side)
    down, across = rows - middle[0], columns - middle[1]
    turn = (np.arctan2(across, down) + np.pi) / (2 * np.pi) * len(lengths)
    ray = turn.astype(int)
    rest = turn - ray
    here, there = lengths[ray % len(lengths)], lengths[(ray + 1) % len(lengths)]
    length = here + rest * (there - here)
    glow = length**2 / (np.sqrt(down**2 + across**2) ** 2 + 1e-4)
    return np.clip((1 - (rest - 0.5) ** 2) * glow**power, 0, 1)


@drawn
def draw_inverse_sparkles(side, level, random):
    middle = random.uniform(0.25, 0.75, 2)
    lengths = inner(random)
    rays = random.randint(50, 200)
    return [middle, rays, np.pad(lengths.randn(rays), (0, _MOST_RAYS - rays))]


@oracle
def inverse_sparkles(image, level, middle, rays, spread):
    side = len(image)
    radius = 0.25 * side
    lengths = radius + 0.25 * radius * spread[:rays]
    amount = 100 - level * 65 / 10
    light = star(side, middle * side, lengths, (100 - amount) / 50)[..., None]
    return 255 + light * (image.astype(float) - 255)


@drawn
def draw_perlin_noise(side, level, random):
    tables = inner(random)
    slopes = tables.randint(0, 2**31, (514, 2), dtype=np.int64) % 512 - 256
    places = np.arange(256)
    for place in range(255, -1, -1):
        other = tables.randint(0, 2**31, dtype=np.int64) % 256
        places[[place, other]] = places[[other, place]]
    return [slopes[:256], np.argsort(places) / 256]  # ours sorts what it draws


@oracle
def perlin_noise(image, level, slopes, keys):
    places = np.argsort(keys)
    directions = slopes / 256
    directions = directions / np.sqrt((directions**2).sum(axis=1, keepdims=True))
    points = [axis / (32 * len(image) / 224) for axis in grid(len(image))]
    octaves = [2.0**octave for octave in range(5)]
    sums = sum(abs(lattice(*(f * p for p in points), places, directions)) / f for f in octaves)
    alpha = level * 0.5 / 10
    cloud = np.clip(0.5 * sums + 0.5, 0, 1)[..., None]
    return (1 - alpha) * image.astype(np.float32) + 255 * alpha * cloud


def lattice(x: Array, y: Array, places: Array, directions: Array) -> Array:
    """Return gradient noise at points (x, y)."""
    x, y = x + 4096, y + 4096
    column, row = x.astype(int), y.astype(int)
    right, down = x % 1, y % 1

    def slope(step_x, step_y):
        corner = places[(places[(column + step_x) % 256] + (row + step_y) % 256) % 256]
        across, along = right - step_x, down - step_y
        return across * directions[corner, 0] + along * directions[corner, 1]

    def eased(share):
        return share**2 * (3 - 2 * share)

    upper = slope(0, 0) + eased(right) * (slope(1, 0) - slope(0, 0))
    lower = slope(0, 1) + eased(right) * (slope(1, 1) - slope(0, 1))
    return 1.5 * (upper + eased(down) * (lower - upper))


@drawn
def draw_brownish_noise(side, level, random):
    phases = inner(random)
    return [phases.uniform(0, 2 * np.pi, (side, side // 2)) for _ in range(3)]


@oracle
def brownish_noise(image, level, *phases):
    noise = [coloured(each, lambda radius: 1 / (radius**2 + 1)) for each in phases]
    return image + level * 64 / 10 * np.stack(noise, axis=-1)


def coloured(phases: Array, power: Callable[[Array], Array]) -> Array:
    """Make noise of unit variance whose waves have these phases and this power."""
    side = len(phases)
    rows, columns = grid(side)
    radius = np.sqrt((columns - side / 2) ** 2 + (rows - side / 2) ** 2)
    whole = np.concatenate([phases, phases[::-1, ::-1]], axis=1)
    waves = power(radius) * (np.cos(whole) + 1j * np.sin(whole))
    noise = np.fft.ifft2(np.roll(waves, side // 2, axis=(0, 1))).real
    return noise / noise.std()


# --- blur


DRAWS["circular_motion_blur"] = nothing


@oracle
def circular_motion_blur(image, level):
    clean = image.astype(np.float32) / 255
    total, weights = np.zeros_like(clean), []
    for step in range(21):
        share = 2 * step / 20 - 1
        weights.append(np.exp(-2 * share**2))
        total += weights[-1] * rotate(clean, share * (level * 15 / 10), reshape=False)
    return total / np.float32(sum(weights)) * 255


@drawn
def draw_transverse_chromatic_abberation(side, level, random):
    return [np.argsort(random.permutation(3)) / 3]  # ours sorts what it draws


@oracle
def transverse_chromatic_abberation(image, level, keys):
    largest = 1 + level * 0.5 / 10
    factors = np.array([1, (1 + largest) / 2, largest])[np.argsort(keys)]
    planes = []
    for plane, factor in zip(np.moveaxis(image, -1, 0), factors, strict=True):
        grown = zoom(plane, factor, prefilter=False)
        start = (len(grown) - len(image)) // 2
        planes.append(grown[start : start + len(image), start : start + len(image)])
    return np.stack(planes, axis=-1)


# --- distortion


@drawn
def draw_caustic_refraction(side, level, random):
    return [random.uniform(0.5, 2), random.uniform(0.75, 1.25)]


@oracle
def caustic_refraction(image, level, time, size):
    side = len(image)
    rows, columns = grid(side)
    light = np.stack([caustics(rows, columns, time, size * side)] * 3, axis=-1)
    light = np.pad(gaussian_filter(light, 1)[..., 0], 1)
    down = light[2:, 1:-1] - light[:-2, 1:-1]
    across = light[1:-1, 2:] - light[1:-1, :-2]
    steepness = np.sqrt(down**2 + across**2 + 1)
    bent = 1 / steepness  # the cosine of the angle of incidence
    with np.errstate(invalid="ignore", divide="ignore"):
        out = np.arcsin(np.sin(np.arccos(bent)) / 4)
        slope = np.sqrt((down / steepness) ** 2 + (across / steepness) ** 2)
        push = np.cos(out) - bent / slope * np.sin(out)
    push = np.where(bent >= 1 - 1e-3, 0, push)
    lens = level * (0.5 * side) / 10
    shifts = [np.round(push * each / steepness * lens, 3) for each in (down, across)]
    seen = sampled(image.astype(np.float32) / 255, rows + shifts[0], columns + shifts[1])
    lit = -across[..., None] * (level * 2 / 10) + down[..., None] * (level * 2 / 10)
    return np.clip(seen + lit, 0, 1) * 255


def caustics(rows: Array, columns: Array, time: float, size: float) -> Array:
    """Return the light on the bottom of moving water, from 0 to 1."""
    first, second = ((axis / size % 1) * 6.28318530718 - 250 for axis in (rows, columns))
    one, other, total = first, second, 1.0
    for step in range(1, 6):
        t = time * (1 - 3.5 / step)
        one, other = (
            first + np.cos(t - one) + np.sin(t + other),
            second + np.sin(t - other) + np.cos(t + one),
        )
        waves = (first / (np.sin(one + t) / 0.005)) ** 2 + (
            second / (np.cos(other + t) / 0.005)
        ) ** 2
        total = total + 1 / np.sqrt(waves)
    return np.clip(abs(1.17 - (total / 5) ** 1.4) ** 8, 0, 1)


@drawn
def draw_pinch_and_twirl(side, constants, random):
    _, count = constants
    signs = [random.choice([1, -1]) for _ in range(count**2)]
    return [(1 - np.array(signs).reshape(count, count).T.flatten()) // 2]


@oracle
def pinch_and_twirl(image, constants, signs):
    level, count = constants
    signs = signs.reshape(count, count)
    size = len(image) // count
    rows, columns = (axis[: size * count, : size * count] for axis in grid(len(image)))
    middles = [(axis // size) * size + size / 2 for axis in (rows, columns)]
    down, across = rows - middles[0], columns - middles[1]
    distance = np.sqrt(down**2 + across**2)
    share = distance / (size / 2)
    turned = (distance <= size / 2) & (distance.round(3) > 0)
    share = np.where(turned, share, 1)
    pinch = np.sin(np.pi * 0.5 * share) ** -(level * 0.4 / 10 + 0.1)
    twist = (1 - 2 * signs) * (level * (np.pi / 2) / 10)
    angle = twist[rows // size, columns // size] * (1 - share) ** 2
    down, across = down * pinch, across * pinch
    places = (
        middles[0] + down * np.cos(angle) - across * np.sin(angle),
        middles[1] + down * np.sin(angle) + across * np.cos(angle),
    )
    rows, columns = (
        np.where(turned, place, axis) for place, axis in zip(places, (rows, columns), strict=True)
    )
    result = image.astype(np.float32)
    result[: size * count, : size * count] = sampled(result, rows, columns)
    return result


@drawn
def draw_ripple(side, level, random):
    return [random.uniform(0.1, 0.3, 2), random.uniform(0, 2 * np.pi, 2)]


@oracle
def ripple(image, level, lengths, phases):
    side = len(image)
    amplitude = level * 0.025 / 10 * side
    places = [
        axis + amplitude * np.sin(2 * np.pi * axis / (length * side) + phase)
        for axis, length, phase in zip(grid(side), lengths, phases, strict=True)
    ]
    return sampled(image, *places)


# --- obscuring


@drawn
def draw_checkerboard_cutout(side, level, random):
    angle, scale = random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.25)
    count = int(4 * side // max(scale * side, 1))
    tiles = inner(random).uniform(size=(count, count))
    whole, half = np.zeros((_CELLS, _CELLS)), min(count, _CELLS) // 2
    for rows in (slice(0, half), slice(-half, None)):  # what lies below 0 counts from the end
        for columns in (slice(0, half), slice(-half, None)):
            whole[rows, columns] = tiles[rows, columns]
    return [angle, scale, whole]


@oracle
def checkerboard_cutout(image, level, angle, scale, tiles):
    rows, columns = grid(len(image))
    scale = max(scale * len(image), 1)
    down = (np.cos(angle) * rows + np.sin(angle) * columns) / scale
    across = (-np.sin(angle) * rows + np.cos(angle) * columns) / scale
    light = (down % 2).astype(int) != (across % 2).astype(int)
    full = tiles[down.astype(int), across.astype(int)] >= level * 1.0 / 10
    return np.where((light | full)[..., None], image, 128)


@drawn
def draw_lines(side, level, random):
    angle, spread = random.uniform(), random.uniform()
    count = int(level * 1.0 / 10 * side)
    return [np.concatenate([[angle, spread], inner(random).uniform(size=3 * count)])]


@oracle
def lines(image, level, numbers):
    side, result = len(image), image.copy()
    angle, spread = 2 * np.pi * numbers[0], 0.1 + (1 - 0.1) * numbers[1]
    for row, column, turn in numbers[2:].reshape(-1, 3):
        way = angle + 2 * np.pi * spread * (turn - 0.5)
        down, across = np.cos(way) * side, np.sin(way) * side
        down_to, across_to = side * row, side * column
        ends = (down_to - down, across_to - across, down_to + down, across_to + across)
        for place, share in smooth_line(*map(int, ends)):
            if min(place) >= 0 and max(place) < side:
                pixel = result[place].astype(np.float32)
                result[place] = (1.0 - share) * pixel + share * 128
    return result


def smooth_line(row: int, column: int, last_row: int, last_column: int):
    """Yield places of a line one pixel wide and how much of each it covers.

    Zingl, 2012, "A rasterizing algorithm for drawing curves", with smooth edges.
    """
    wide, high = abs(last_column - column), abs(last_row - row)
    right, down = np.sign(last_column - column) or -1, np.sign(last_row - row) or -1
    length = np.sqrt(wide**2 + high**2) if wide + high else 1
    error = wide - high
    while True:
        yield (row, column), 1 - abs(error - wide + high) / length
        before, before_column = error, column
        if 2 * before >= -wide:
            if column == last_column:
                return
            if before + high < length:
                yield (row + down, column), 1 - abs(before + high) / length
            error -= high
            column += right
        if 2 * before <= high:
            if row == last_row:
                return
            if wide - before < length:
                yield (row, before_column + right), 1 - abs(wide - before) / length
            error += wide
            row += down


@drawn
def draw_blue_noise_sample(side, level, random):
    return [inner(random).uniform(0, 2 * np.pi, (side, side // 2))]


@oracle
def blue_noise_sample(image, level, phases):
    kept = coloured(phases, lambda radius: radius) > level * 3 / 10 - 2.5
    return image * kept[..., None]
