"""Types of tensors that modules exchange, checked at run time in tests; pixels to images."""

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Pixels = UInt8[Tensor, "batch 3 height width"]  # as stored: 0 to 255
Images = Float[Tensor, "batch 3 height width"]  # input of networks: [0, 1]
Labels = Int64[Tensor, " batch"]  # class numbers
Examples = Int64[Tensor, " batch"]  # positions in the data set
Logits = Float[Tensor, "batch classes"]
Units = Float[Tensor, "batch units"]  # one layer's units: spatial means of a ReLU's outputs


def to_images(pixels: Pixels) -> Images:
    """Convert uint8 pixels to images in [0, 1], the networks' input."""
    return pixels.float().div_(255)
