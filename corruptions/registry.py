"""The decorator that registers a function as a corruption, and the table of corruptions."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from PIL import Image

from corruptions.draws import Draws
from corruptions.types import Bytes, Images, as_bytes, as_images, by_pillow

FAMILIES = ("noise", "blur", "weather", "digital")
BAR_FAMILIES = ("noise", "blur", "distortion", "obscuring")
ALL_FAMILIES = tuple(dict.fromkeys(FAMILIES + BAR_FAMILIES))

# from the constants to a function of one image; None where Pillow computes otherwise
OnImage = Callable[[Any], Callable[[Image.Image], Image.Image] | None]
Function = TypeVar("Function", bound=Callable[..., Images])

_SMALL = 48 * 48  # pixels of images up to which batches of tensors take less time than Pillow

_registered: dict[str, "Corruption"] = {}  # in the order of the benchmark


@dataclass(frozen=True)
class Corruption:
    """A way to degrade images, at five severities for each image size with constants."""

    name: str
    family: str  # one of ALL_FAMILIES
    extra: bool  # False for the fifteen that mCE averages
    severities: Mapping[int, tuple[Any, ...]]  # image size -> constants of severities 1 to 5
    version: int  # increases whenever the output changes
    function: Callable[..., Images]
    find_variant: Callable[[], str]
    on_image: OnImage | None = None  # a faster way to the same bytes, for a CPU
    bar: tuple[int, ...] = ()  # image sizes whose C-bar has it; () if not in C-bar

    @property
    def variant(self) -> str:
        """The name of external files that the output depends on; usually "".

        Results of different variants are not comparable and must not share a table.
        """
        return self.find_variant()

    def published(self, size: int) -> bool:
        """Return whether the constants for a size are those of a published set."""
        return not self.bar or size in self.bar

    @cached_property
    def random(self) -> bool:
        """Whether the output depends on examples and seed."""
        return "draws" in inspect.signature(self.function).parameters

    def apply(self, images: Bytes, severity: int, *, scale: int, draws: Draws) -> Bytes:
        """Corrupt a batch with the constants for `scale`, a key of `severities`, and these draws.

        Nothing is checked, and the batch is computed in one piece; see `corrupt`.
        """
        constants = self.severities[scale][severity - 1]
        large = images[0, 0].numel() > _SMALL
        if self.on_image and large and images.device.type == "cpu":
            change = self.on_image(constants)
            if change:
                return by_pillow(images, change)
        sources = (draws,) if self.random else ()
        # Independent of the caller's autocast and default device. A default device slows every
        # operator down, so it is set only where the caller has set another.
        elsewhere = torch.get_default_device().type != "cpu"
        tensors_here = torch.device("cpu") if elsewhere else nullcontext()
        with torch.autocast(images.device.type, enabled=False), tensors_here:
            return as_bytes(self.function(as_images(images), constants, *sources))


def corruption(
    family: str,
    severities: Mapping[int, tuple[Any, Any, Any, Any, Any]],
    *,
    extra: bool = False,
    version: int = 1,
    find_variant: Callable[[], str] = str,
    on_image: OnImage | None = None,
    bar: tuple[int, ...] = (),
) -> Callable[[Function], Function]:
    """Register a function of (images, constants) or (images, constants, draws) under its name."""

    def register(function: Function) -> Function:
        name = function.__name__
        if name in _registered:
            raise ValueError(f"two corruptions are named {name!r}")
        new = Corruption(
            name, family, extra, severities, version, function, find_variant, on_image, bar
        )
        ordered = sorted([*_registered.values(), new], key=_place)
        _registered.clear()
        _registered.update({entry.name: entry for entry in ordered})
        return function

    return register


def registered() -> Mapping[str, Corruption]:
    """Return the corruptions in order: by family, then the extra ones, then C-bar's.

    The mapping also shows corruptions that are registered later.
    """
    return MappingProxyType(_registered)


def _place(entry: Corruption) -> tuple[bool, bool, int]:
    return bool(entry.bar), entry.extra, ALL_FAMILIES.index(entry.family)
