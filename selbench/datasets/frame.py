"""Scale and crop photographs to one size, with the same bytes as torchvision."""

from dataclasses import dataclass

from PIL import Image

from selbench._kit.errors import SelbenchError
from selbench.study import NETWORK, DatasetSpec

MODES = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic")}
LARGEST = 2**26  # pixels of a photograph, before and after scaling
USUAL = 224  # pixels


@dataclass(frozen=True)
class Frame:
    """A resize and a crop of images: `Resize(resize, interpolation)` and `CenterCrop(crop)`.

    Attributes:
        crop: side of the central square, in pixels.
        resize: shorter side after the resize that comes first, in pixels; None for no resize.
        interpolation: one of `MODES`; the last two are antialiased.
    """

    crop: int
    resize: int | None = None
    interpolation: str = "bilinear"

    def __str__(self) -> str:
        scaled = f"shorter side {self.resize} ({self.interpolation}), " if self.resize else ""
        return f"{scaled}centre {self.crop}"

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of an image of that size after scaling."""
        short, long = min(width, height), max(width, height)
        if self.resize in (None, short):
            return width, height
        other = int(self.resize * long / short)  # in floating point, as in torchvision
        return (self.resize, other) if width <= height else (other, self.resize)

    def of(self, image: Image.Image) -> Image.Image:
        """Scale and crop an image; raise `ValueError` with the reason if that is impossible."""
        size = self.scaled(*image.size)
        if size[0] * size[1] > LARGEST:
            raise ValueError(f"would be {size[0]} x {size[1]} pixels once scaled; remove it")
        if min(size) < self.crop:
            raise ValueError(
                f"is {size[0]} x {size[1]} pixels and has no centre of {self.crop}; scale all "
                f"images first: --resize {self.crop}"
            )
        if size != image.size:
            image = image.resize(size, MODES[self.interpolation])
        left, top = (round((side - self.crop) / 2.0) for side in size)
        return image.crop((left, top, left + self.crop, top + self.crop))


def frame_of(spec: DatasetSpec) -> Frame | None:
    """Return the frame of a study's images; None if they keep their size."""
    resize = spec.resize
    if isinstance(resize, str):
        raise SelbenchError(
            f'--resize {NETWORK} (or dataset.resize = "{NETWORK}") is the size that a network of '
            "--model declares; add --model, or give a number of pixels"
        )
    side = spec.crop or resize
    return None if side is None else Frame(side, resize, spec.interpolation or "bilinear")


def cure(*sizes: tuple[int, ...]) -> str:
    """Return the advice for images of several sizes (height, width)."""
    side = min(USUAL, *(each for size in sizes for each in size))
    return (
        f"scale and crop them to one with --resize {side} (in a study: resize = {side} under "
        f"[dataset]), or with --resize {NETWORK} as a --model of timm or torchvision declares"
    )
