"""How many images a network takes at once, and fewer where memory does not suffice."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selbench.types import Images, Pixels

# By the kind of device, and halved for good where memory does not suffice. Of gradients: what a
# processor's cache holds, a GPU fills.
CHUNK = {"cpu": 64, "cuda": 2000}
BATCH = {"cpu": 250, "cuda": 2000}  # of forward passes

PIXELS = 2**22  # of a colour channel, of which copies in floating point may be held on a processor


def few(images: Images | Pixels, most: int) -> int:
    """Return how many images may be changed at once: `most`, or fewer where they are large.

    On a GPU always `most`.
    """
    height, width = images.shape[2:]
    return most if images.is_cuda else max(1, min(most, PIXELS // (height * width)))


def in_chunks(
    function: Callable[..., Sequence[Tensor]],
    images: Images | Pixels,
    *others: Tensor,
    sizes: dict[str, int] = CHUNK,
) -> list[Tensor]:
    """Map over rows in chunks, half as large from now on where memory does not suffice.

    Args:
        function: from rows of the images and of the others to tensors with as many rows.
        images: at least 1.
        others: with a row for each image.
        sizes: `CHUNK` or `BATCH`.
    """
    kind = images.device.type
    before = sizes[kind]
    while True:
        size = sizes[kind]
        try:
            rows = zip(*(tensor.split(size) for tensor in (images, *others)), strict=True)
            parts = [function(*chunk) for chunk in rows]
        except torch.OutOfMemoryError:
            if size == 1:
                sizes[kind] = before  # other networks may need less
                raise
            sizes[kind] = size // 2
            message = f"out of memory: {size // 2} images at once from now on instead of {size}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        else:
            columns = zip(*parts, strict=True)
            return [torch.cat(column) if len(column) > 1 else column[0] for column in columns]
