"""The shapes that travel between modules, checked at run time while testing; pixels and images."""

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Pixels = UInt8[Tensor, "batch 3 height width"]  # as stored: 0 to 255
Images = Float[Tensor, "batch 3 height width"]  # as networks take them: [0, 1]
Labels = Int64[Tensor, " batch"]  # class numbers
Examples = Int64[Tensor, " batch"]  # positions in the data set
Logits = Float[Tensor, "batch classes"]
Units = Float[Tensor, "batch units"]  # one layer's units: spatial means of a ReLU's output maps


def to_images(pixels: Pixels) -> Images:
    """Turn uint8 pixels into the [0, 1] images that networks take."""
    return pixels.float().div_(255)
