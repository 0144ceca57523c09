"""The two distortions of elastic_transform: an affine one, and ripples."""

import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn.functional import grid_sample

from corruptions.draws import Draws
from corruptions.separable import blurred, border_index
from corruptions.types import Images

_STEPS = 32  # OpenCV, which made the published sets, samples at multiples of 1/32 pixel ...
_FINE = 1024  # ... and adds up positions in units of 1/1024


def tilted(images: Images, jitter: float, draws: Draws) -> Images:
    """Move three points around the centre by up to `jitter` pixels, and the image with them.

    Beyond its borders the image is mirrored.
    """
    _, _, height, width = images.shape
    matrix = _random_affine(height, width, jitter, draws).unsqueeze(-1)
    steps = torch.arange(max(height, width), dtype=torch.float64, device=images.device)
    columns, rows = steps[:width], steps[:height]
    places = []
    for axis, size in enumerate((width, height)):
        across = (matrix[:, axis, 0] * columns * _FINE).round()
        down = ((matrix[:, axis, 1] * rows + matrix[:, axis, 2]) * _FINE).round()
        fine = across.unsqueeze(1) + down.unsqueeze(2) + _FINE // _STEPS // 2
        coarse = fine.div_(_FINE // _STEPS).floor_().long()
        places.append(border_index(coarse, (size - 1) * _STEPS + 1, "mirror").float() / _STEPS)
    return _sampled(images, *places)


def rippled(images: Images, alpha: float, sigma: float, draws: Draws) -> Images:
    """Displace each pixel by smoothed noise.

    alpha: factor of the noise, which is uniform in [-1, 1], after smoothing; in pixels.
    sigma: standard deviation of the smoothing, in pixels.
    """
    _, _, height, width = images.shape
    noise = [draws.uniform(-1, 1, height, width) for _ in range(2)]
    shifts = alpha * blurred(torch.stack(noise, dim=1), sigma, "reflect", truncate=3)
    columns = torch.arange(width, device=images.device)
    rows = torch.arange(height, device=images.device).unsqueeze(1)
    return _sampled(images, columns + shifts[:, 0], rows + shifts[:, 1])


def _random_affine(
    height: int, width: int, jitter: float, draws: Draws
) -> Float64[Tensor, "batch 2 3"]:
    """Return the map from a pixel (column, row) to the position of its new colour."""
    reach = min(height, width) // 3
    middle = torch.tensor([width // 2, height // 2], dtype=torch.float32)
    corners = middle + reach * torch.tensor([[1, 1], [1, -1], [-1, -1]])
    offsets = draws.uniform(-jitter, jitter, 3, 2)
    corners = corners.to(offsets.device)
    lower_right, upper_right, upper_left = (corners + offsets).double().unbind(1)
    x_axis = (upper_right - upper_left) / (2 * reach)
    y_axis = (lower_right - upper_right) / (2 * reach)
    origin = upper_left - corners[2, 0] * x_axis - corners[2, 1] * y_axis
    inverse = torch.linalg.inv(torch.stack((x_axis, y_axis), dim=2))
    return torch.cat((inverse, -inverse @ origin.unsqueeze(2)), dim=2)


def _sampled(
    images: Images,
    columns: Float32[Tensor, "batch height width"],
    rows: Float32[Tensor, "batch height width"],
) -> Images:
    """Interpolate linearly at positions in pixels; outside, the image is reflected at its edge."""
    _, _, height, width = images.shape
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=3)
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)
