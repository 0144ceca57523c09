"""How many images a network processes at once, and fewer when memory runs out."""

import re
import warnings
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from selbench._kit.types import Images, Pixels

# Chunks by device type, for gradients: what fits into a CPU's cache, or fills a GPU.
CHUNK = {"cpu": 64, "cuda": 2000}
BATCH = {"cpu": 250, "cuda": 2000}  # for forward passes

PIXELS = 2**22  # values of a colour channel whose floating-point copies a CPU may hold
# Memory of an image's maps on a GPU, in copies of the image with four bytes per value. With
# gradients, 130 in a ResNet20 and 300 in a ResNet50; without, only the widest maps count, 50 in a
# VGG.
FOLLOWED, PASSED = 300, 60
# What libraries say instead of "out of memory".
FULL = re.compile(
    r"out of memory|can't allocate memory|not enough memory|_ALLOC_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED|CUSOLVER_STATUS_INTERNAL_ERROR"
    r"|unable to find an engine|Unable to find a valid cuDNN algorithm"
)

Halved = dict[str, int]  # divisors of sizes, by kind of size
_CHUNK, _BATCH, _MOST = "chunk", "batch", "most"
_current: ContextVar[Halved | None] = ContextVar("halved", default=None)
_known: MutableMapping[nn.Module, Halved] = WeakIdKeyDictionary()


def is_full(problem: BaseException) -> bool:
    """Return whether an error comes from too little memory, on any device."""
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and bool(FULL.search(str(problem)))


@contextmanager
def sizes_of(network: nn.Module) -> Iterator[None]:
    """Remember halved chunks for this network only, while the block runs.

    Inside the block of another network, the outer network's sizes apply.
    """
    if _current.get() is not None:
        yield
        return
    token = _current.set(_known.setdefault(network, {}))
    try:
        yield
    finally:
        _current.reset(token)


def few(images: Images | Pixels, most: int) -> int:
    """Return how many images to change at once: `most`, or fewer if they are large."""
    if images.is_cuda:
        return min(most, _fitting(images, PASSED))
    height, width = images.shape[2:]
    return max(1, min(most, PIXELS // (height * width)))


def gradient_chunk(images: Images | Pixels) -> int:
    """Return for how many images gradients are computed at once."""
    return _size(images, CHUNK, None, _current.get() or {})


def in_chunks(
    function: Callable[..., Sequence[Tensor]],
    images: Images | Pixels,
    *others: Tensor,
    sizes: dict[str, int] = CHUNK,
    most: int | None = None,
) -> list[Tensor]:
    """Map over rows in chunks; when memory runs out, halve the chunks from then on.

    Args:
        function: maps rows of the images and of `others` to tensors with as many rows.
        images: at least 1.
        others: tensors with one row for each image.
        sizes: `CHUNK` or `BATCH`.
        most: the number of rows at once, instead of `sizes`.
    """
    current = _current.get()
    halved: Halved = {} if current is None else current
    name = _name(sizes, most)
    before = halved.get(name, 1)
    while True:
        size = _size(images, sizes, most, halved)
        try:
            rows = zip(*(tensor.split(size) for tensor in (images, *others)), strict=True)
            parts = [function(*chunk) for chunk in rows]
        except RuntimeError as problem:
            if size == 1 or not is_full(problem):
                halved[name] = before
                raise
        else:
            columns = zip(*parts, strict=True)
            return [torch.cat(column) if len(column) > 1 else column[0] for column in columns]
        halved[name] = 2 * halved.get(name, 1)
        message = f"out of memory: {size // 2} images at once from now on instead of {size}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        if images.is_cuda:  # leaves memory for libraries with their own allocator
            torch.cuda.empty_cache()


def _name(sizes: dict[str, int], most: int | None) -> str:
    return (_BATCH if sizes is BATCH else _CHUNK) if most is None else _MOST


def _size(images: Images | Pixels, sizes: dict[str, int], most: int | None, halved: Halved) -> int:
    size = sizes[images.device.type] if most is None else most
    if images.is_cuda and most is None:
        size = min(size, _fitting(images, PASSED if sizes is BATCH else FOLLOWED))
    return max(1, size // halved.get(_name(sizes, most), 1))


def _fitting(images: Images | Pixels, copies: int) -> int:
    """Return how many images with `copies` copies fit into a GPU, as a power of two.

    It depends on the total memory, not on the free one: the number of images affects the last bits
    of logits, and other running programs should not.
    """
    room = torch.cuda.get_device_properties(images.device).total_memory
    room = int(room * torch.cuda.get_per_process_memory_fraction(images.device))
    return 1 << max(0, (room // (4 * copies * max(1, images[:1].numel()))).bit_length() - 1)
