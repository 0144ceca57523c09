"""The treatment of images: corruptions, severities, constants and seed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from corruptions import (
    CORRUPTIONS,
    SMALLEST_SIDE,
    Corruption,
    FrostError,
    bar_corruptions,
    corrupt,
    look_for_frost_in,
)
from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.files import home
from selbench._kit.types import Pixels
from selbench.sets.layout import SEVERITIES
from selbench.sets.source import Source

SCALES = (32, 64, 224)  # image sizes with constants: CIFAR, Tiny ImageNet, ImageNet
BAR = "corruptions-bar"  # suites whose corruptions depend on the image size
SUITES: dict[str, Callable[[Corruption], bool]] = {
    "corruptions": lambda each: not each.extra,
    "corruptions-extra": lambda each: each.extra and not each.bar,
    "corruptions-all": lambda each: not each.bar,
    BAR: lambda each: bool(each.bar),
}


@dataclass(frozen=True)
class Treatment:
    """Corruptions at severities.

    Attributes:
        corruptions: names, in the benchmark's order.
        severities: in rising order.
        seed: the seed of the random numbers; `selbench run` uses 0.
        scale: the size whose constants are used; None for the images' size.
    """

    corruptions: tuple[str, ...] = field(default_factory=lambda: choose_corruptions(None))
    severities: tuple[int, ...] = tuple(SEVERITIES)
    seed: int = 0
    scale: int | None = None

    def fitted(self, sizes: set[tuple[int, int]]) -> "Treatment":
        """Return it with the scale for images of these sizes (height, width).

        Raises:
            SelbenchError: for a size without constants if no scale is given, and for images that
                are too small.
        """
        height, width = min(sizes, key=min)
        if min(height, width) < SMALLEST_SIDE:
            raise SelbenchError(
                f"an image is {width} x {height} pixels; corruptions need at least "
                f"{SMALLEST_SIDE} a side, enlarge it"
            )
        if self.scale is not None:
            return self
        if len(sizes) == 1 and height == width and height in SCALES:
            return replace(self, scale=height)
        shown = f"{width} x {height} pixels" + (" and other sizes" if len(sizes) > 1 else "")
        raise SelbenchError(
            f"the images are {shown}; there are constants for 32 x 32, 64 x 64 and 224 x 224 "
            "pixels: choose them with --scale 32, 64 or 224"
        )

    def apply(
        self, source: Source, rows: range, name: str, severity: int, device: torch.device
    ) -> Pixels:
        """Return the corrupted images at the positions `rows`, of one size, on the CPU."""
        images, examples = source.read(rows), torch.arange(rows.start, rows.stop)
        images, examples = images.to(device), examples.to(device)
        with _frost_errors():
            return corrupt(
                images, name, severity, examples=examples, seed=self.seed, scale=self.scale
            ).cpu()


def choose_corruptions(
    words: Sequence[str] | None, suite: str = "corruptions-all", size: int = 32
) -> tuple[str, ...]:
    """Return the named corruptions in the benchmark's order; None for those of a suite.

    Args:
        words: the names.
        suite: a key of `SUITES`.
        size: of the images in pixels, which selects the ten corruptions of C-bar.
    """
    for word in words or ():
        if word not in CORRUPTIONS:
            raise unknown("corruption", word, CORRUPTIONS)
    if suite not in SUITES:
        raise unknown("suite of corruptions", suite, SUITES)
    if words is not None:
        return tuple(name for name in CORRUPTIONS if name in words)
    if suite == BAR:
        return bar_corruptions(size)
    return tuple(name for name, each in CORRUPTIONS.items() if SUITES[suite](each))


def choose_severities(words: Sequence[str] | None) -> tuple[int, ...]:
    """Return severities in rising order, without repeats; None for all five."""
    known = {str(severity): severity for severity in SEVERITIES}
    for word in words or ():
        if word not in known:
            raise SelbenchError(f"--severity takes whole numbers from 1 to 5, got {word!r}")
    return tuple(sorted({known[word] for word in words or known}))


def choose_scale(scale: int | None) -> int | None:
    """Return `scale` if it has constants."""
    if scale not in (None, *SCALES):
        raise SelbenchError(f"--scale takes 32, 64 or 224, got {scale}")
    return scale


def find_variants(names: Sequence[str]) -> dict[str, str]:
    """Return the variant of each corruption; SELBENCH_HOME/frost may hold the photographs of frost.

    Raises:
        SelbenchError: for photographs that are incomplete or damaged.
    """
    look_for_frost_in(home() / "frost")
    with _frost_errors():
        return {name: CORRUPTIONS[name].variant for name in names}


@contextmanager
def _frost_errors() -> Iterator[None]:
    try:
        yield
    except FrostError as problem:
        raise SelbenchError(str(problem)) from problem
