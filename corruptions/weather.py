"""Weather: snow, frost, fog and light."""

from functools import lru_cache

import torch
from jaxtyping import Float32
from torch import Tensor

from corruptions.colours import Plane, recoloured
from corruptions.draws import Draws
from corruptions.frost import frost_pictures, frost_source, frost_variant
from corruptions.registry import corruption
from corruptions.separable import blurred, transformed, zoom_matrix
from corruptions.splashes import relief
from corruptions.streaks import streaked
from corruptions.types import Images, as_fractions, truncated

WATER, MUD = "water", "mud"
_TURQUOISE, _BROWN = (175.0, 238.0, 238.0), (63.0, 42.0, 20.0)
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # weights in grey: ITU-R BT.601


@corruption(
    "weather",
    {
        32: (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        64: (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        224: (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    },
)
def snow(
    images: Images, fall: tuple[float, float, float, float, int, float, float], draws: Draws
) -> Images:
    """Whiten the scene and add falling flakes, once as drawn and once rotated by 180 degrees.

    fall: mean, standard deviation and magnification of the noise that becomes flakes, and its
        threshold; radius and standard deviation of their streaks, in pixels; the share of the scene
        that is not whitened.
    """
    mean, std, zoom, threshold, radius, sigma, kept = fall
    _, _, height, width = images.shape
    flakes = mean + std * draws.normal(height, width).unsqueeze(1)
    rows, columns = (_zoom_matrix(size, zoom, images.device) for size in (height, width))
    flakes = transformed(flakes, rows, columns)
    flakes = truncated(255 * flakes.masked_fill(flakes < threshold, 0))
    flakes = streaked(flakes, radius, sigma, draws.uniform(-135, -45))
    red, green, blue = images.split(1, dim=1)
    grey = _RED * red + _GREEN * green + _BLUE * blue
    whitened = images.maximum(1.5 * grey + 127.5)
    return kept * images + (1 - kept) * whitened + flakes + flakes.rot90(2, (2, 3))


@corruption(
    "weather",
    {
        32: ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
        64: ((1, 0.3, 0.3), (0.9, 0.4, 0.3), (0.8, 0.45, 0.3), (0.75, 0.5, 0.3), (0.7, 0.55, 0.3)),
        224: ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    },
    find_variant=frost_variant,
    version=2,
)
def frost(images: Images, pane: tuple[float, float, float], draws: Draws) -> Images:
    """Add a random crop of one of five pictures of frost.

    pane: weight of the image, weight of the frost, and the pictures' size relative to the
        photographs (larger if an image would not fit).
    Raises FrostError if photographs are incomplete or damaged; see `corruptions.frost`.
    """
    weight, frost_weight, shrink = pane
    _, _, height, width = images.shape
    pictures, sizes = frost_pictures(frost_source(), shrink, height, width, images.device)
    chosen = draws.integers(0, len(pictures))
    top = draws.integers(0, sizes[chosen, 0] - height)
    left = draws.integers(0, sizes[chosen, 1] - width)
    rows = top.view(-1, 1, 1) + torch.arange(height, device=images.device).view(1, -1, 1)
    columns = left.view(-1, 1, 1) + torch.arange(width, device=images.device).view(1, 1, -1)
    pieces = pictures[chosen.view(-1, 1, 1), rows, columns].permute(0, 3, 1, 2)
    return weight * images.double() + frost_weight * pieces.double()


@corruption(
    "weather",
    {
        32: ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        64: ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        224: ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    },
)
def fog(images: Images, mist: tuple[float, float], draws: Draws) -> Images:
    """Add a cloud to all channels and scale the brightest value back to its old value.

    mist: the cloud's largest thickness, relative to the full range, and the factor by which its
        relief shrinks each time the scale is halved.
    """
    thickness, decay = mist
    _, _, height, width = images.shape
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    cloud = _clouds(images, decay, draws)[:, :height, :width].unsqueeze(1)
    fogged = images + 255 * thickness * cloud
    return fogged * (brightest / (brightest + 255 * thickness))


@corruption(
    "weather",
    {
        32: (0.05, 0.1, 0.15, 0.2, 0.3),
        64: (0.1, 0.2, 0.3, 0.4, 0.5),
        224: (0.1, 0.2, 0.3, 0.4, 0.5),
    },
    version=2,
)
def brightness(images: Images, amount: float) -> Images:
    """Raise the value in HSV space; hue and saturation stay.

    amount: added to the value, as a fraction of the full range, and clipped there.
    """

    def brighter(saturation: Plane, value: Plane) -> tuple[Plane, Plane]:
        return saturation, (value + amount).clamp_(max=1)

    return recoloured(as_fractions(images), brighter).mul_(255)


@corruption(
    "weather",
    {
        32: (
            (0.62, 0.1, 0.7, 0.7, 0.5, WATER),
            (0.65, 0.1, 0.8, 0.7, 0.5, WATER),
            (0.65, 0.3, 1, 0.69, 0.5, WATER),
            (0.65, 0.1, 0.7, 0.69, 0.6, MUD),
            (0.65, 0.1, 0.5, 0.68, 0.6, MUD),
        ),
        64: (
            (0.62, 0.1, 0.7, 0.7, 0.6, WATER),
            (0.65, 0.1, 0.8, 0.7, 0.6, WATER),
            (0.65, 0.3, 1, 0.69, 0.6, WATER),
            (0.65, 0.1, 0.7, 0.68, 0.6, MUD),
            (0.65, 0.1, 0.5, 0.67, 0.6, MUD),
        ),
        224: (
            (0.65, 0.3, 4, 0.69, 0.6, WATER),
            (0.65, 0.3, 3, 0.68, 0.6, WATER),
            (0.65, 0.3, 2, 0.68, 0.5, WATER),
            (0.65, 0.3, 1, 0.65, 1.5, MUD),
            (0.67, 0.4, 1, 0.65, 1.5, MUD),
        ),
    },
    extra=True,
)
def spatter(
    images: Images, splash: tuple[float, float, float, float, float, str], draws: Draws
) -> Images:
    """Splash water on the lens, or mud at high severities.

    splash: mean and standard deviation of the noise that becomes drops, standard deviation of its
        smoothing in pixels, and its threshold; for water the strength, for mud the smoothing of
        drops in pixels; and the liquid. An image without drops stays unchanged.
    """
    mean, std, sigma, threshold, finish, liquid = splash
    noise = mean + std * draws.normal(*images.shape[2:])
    layer = blurred(noise.unsqueeze(1), sigma)
    layer = layer.masked_fill(layer < threshold, 0)
    if liquid == MUD:
        cover = blurred((layer > threshold).float(), finish)
        cover = cover.masked_fill(cover < 0.8, 0)
        return images + cover * (images.new_tensor(_BROWN).view(1, 3, 1, 1) - images)
    amount = (255 * layer).int().bitwise_and_(255).float()  # bytes that overflow wrap around
    light = amount * relief(amount.squeeze(1)).unsqueeze(1)
    light = light * (finish / light.amax((2, 3), keepdim=True).clamp(min=1))
    return images + light * images.new_tensor(_TURQUOISE).view(1, 3, 1, 1)


def _clouds(like: Images, decay: float, draws: Draws) -> Float32[Tensor, "batch side side"]:
    """Make a cloud from 0 to 1 for each image by the diamond-square method.

    The grid starts as a point and doubles, with opposite borders joined, until it covers an image.
    Each new point is the mean of its four neighbours plus noise. Fournier, Fussell & Carpenter,
    1982, doi:10.1145/358523.358553.
    """
    grid, relief = like.new_zeros(len(like), 1, 1), 100.0
    while grid.shape[1] < max(like.shape[2:]):
        grid = _refined(grid, relief, draws)
        relief /= decay
    lowest, highest = grid.amin((1, 2), keepdim=True), grid.amax((1, 2), keepdim=True)
    return (grid - lowest) / (highest - lowest)


def _refined(
    corners: Float32[Tensor, "batch side side"], relief: float, draws: Draws
) -> Float32[Tensor, "batch twice twice"]:
    """Double a grid: fill the centres of its squares, then those of their edges."""

    def filled(around: Float32[Tensor, "batch side side"]) -> Float32[Tensor, "batch side side"]:
        return around / 4 + relief * draws.uniform(-relief, relief, *corners.shape[1:])

    pairs = corners + corners.roll(-1, 1)
    middles = filled(pairs + pairs.roll(-1, 2))
    tops = filled(middles + middles.roll(1, 1) + corners + corners.roll(-1, 2))
    lefts = filled(middles + middles.roll(1, 2) + corners + corners.roll(-1, 1))
    upper = torch.stack((corners, tops), dim=3).flatten(2)
    lower = torch.stack((lefts, middles), dim=3).flatten(2)
    return torch.stack((upper, lower), dim=2).flatten(1, 2)


@lru_cache(maxsize=64)
def _zoom_matrix(size: int, factor: float, device: torch.device) -> Float32[Tensor, "1 size size"]:
    return zoom_matrix(size, factor).to(device, torch.float32).unsqueeze(0)
