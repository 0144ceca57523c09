"""Colours between pixels."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from corruptions.bar.level import Plane
from corruptions.types import Fractions


def sampled(
    images: Float[Tensor, "batch 3 height width"], rows: Plane, columns: Plane
) -> Fractions:
    """Interpolate linearly at positions in pixels; beyond the image everything is black."""
    _, _, height, width = images.shape
    framed = pad(images, (1, 1, 1, 1)).flatten(2)
    top, left = rows.floor(), columns.floor()
    upper, lower = 1 - rows + top, 1 - (top + 1) + rows
    here, there = 1 - columns + left, 1 - (left + 1) + columns

    def pixel(down: int, right: int) -> Tensor:
        row = (top + (1 + down)).clamp_(0, height + 1)
        column = (left + (1 + right)).clamp_(0, width + 1)
        index = row.mul_(width + 2).add_(column).long().flatten(1).unsqueeze(1)
        found = framed.gather(2, index.expand(-1, 3, -1))
        return found.double().view(-1, 3, height, width)

    def mixed(down: int) -> Tensor:
        left_part = pixel(down, 0).mul_(here.unsqueeze(1))
        return left_part.add_(pixel(down, 1).mul_(there.unsqueeze(1)))

    return mixed(0).mul_(upper.unsqueeze(1)).add_(mixed(1).mul_(lower.unsqueeze(1)))
