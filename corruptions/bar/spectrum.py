"""Noise with a given amplitude at each frequency, and random phases."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from corruptions.bar.level import Plane, grid
from corruptions.draws import Draws
from corruptions.types import Images


def coloured(
    like: Images,
    amplitude: Callable[[Float64[Tensor, "..."]], Float64[Tensor, "..."]],
    draws: Draws,
) -> Plane:
    """Return noise with variance 1 for each image.

    amplitude: maps the number of a wave's periods in the image to its amplitude.

    As in the published sets, phases are symmetric under a rotation by 180 degrees about the centre
    of the image instead of frequency 0, and the imaginary part of the sum is dropped.
    """
    _, _, height, width = like.shape
    rows, columns = grid(like)
    waves = torch.sqrt((columns - width / 2) ** 2 + (rows - height / 2) ** 2)
    phases = _phases(height, width, draws).double()
    spectrum = torch.polar(amplitude(waves).expand_as(phases), phases)
    spectrum = spectrum.roll((height // 2, width // 2), (1, 2))
    noise: Tensor = torch.fft.ifft2(spectrum).real.contiguous()
    deviation: Tensor = noise.std((1, 2), correction=0, keepdim=True)
    return noise / deviation


def _phases(height: int, width: int, draws: Draws) -> Tensor:
    left = draws.uniform(0, 2 * math.pi, height, width // 2)
    parts = [left, left.flip(1, 2)]
    if width % 2:
        upper = draws.uniform(0, 2 * math.pi, height // 2, 1)
        middle = upper.new_zeros(len(upper), height % 2, 1)
        parts.insert(1, torch.cat((upper, middle, upper.flip(1)), dim=1))
    return torch.cat(parts, dim=2)
