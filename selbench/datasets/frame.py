"""How photographs of many sizes come to one: scaled and cut as torchvision does it, to the byte."""

from dataclasses import dataclass

from PIL import Image

from selbench._kit.errors import SelbenchError
from selbench.study import NETWORK, DatasetSpec

MODES = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic")}
LARGEST = 2**26  # pixels of a photograph, before and after it is scaled
USUAL = 224  # pixels


@dataclass(frozen=True)
class Frame:
    """What is made of an image: `Resize(resize, interpolation)` and `CenterCrop(crop)`.

    Attributes:
        crop: side of the square cut from the centre, in pixels.
        resize: what the shorter side is scaled to before; None to leave it.
        interpolation: one of `MODES`; the last two smooth where they shrink.
    """

    crop: int
    resize: int | None = None
    interpolation: str = "bilinear"

    def __str__(self) -> str:
        scaled = f"shorter side {self.resize} ({self.interpolation}), " if self.resize else ""
        return f"{scaled}centre {self.crop}"

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of an image of that size once it is scaled."""
        short, long = min(width, height), max(width, height)
        if self.resize in (None, short):
            return width, height
        other = int(self.resize * long / short)  # in floating point, as torchvision counts
        return (self.resize, other) if width <= height else (other, self.resize)

    def of(self, image: Image.Image) -> Image.Image:
        """Scale and cut an image; raises `ValueError` with the reason where that is impossible."""
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
    """Return what a study makes of images; None where they stay as they are."""
    resize = spec.resize
    if isinstance(resize, str):
        raise SelbenchError(
            f'--resize {NETWORK} (or dataset.resize = "{NETWORK}") is what a network declares that '
            "is brought with --model; bring one, or say how many pixels"
        )
    side = spec.crop or resize
    return None if side is None else Frame(side, resize, spec.interpolation or "bilinear")


def cure(*sizes: tuple[int, ...]) -> str:
    """Say how images of many sizes (height, width) come to one."""
    side = min(USUAL, *(each for size in sizes for each in size))
    return (
        f"scale and cut them to one with --resize {side} (in a study: resize = {side} under "
        f"[dataset]), or with --resize {NETWORK} as a --model of timm or torchvision declares"
    )
