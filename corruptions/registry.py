"""The decorator that makes a function a corruption, and the table it is entered into."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from corruptions.draws import Draws
from corruptions.images import Bytes, Images, as_bytes, as_images

FAMILIES = ("noise", "blur", "weather", "digital")
BAR_FAMILIES = ("noise", "blur", "distortion", "obscuring")
ALL_FAMILIES = tuple(dict.fromkeys(FAMILIES + BAR_FAMILIES))

Function = TypeVar("Function", bound=Callable[..., Images])

_registered: dict[str, "Corruption"] = {}  # in the benchmark's order


@dataclass(frozen=True)
class Corruption:
    """One way to degrade images, at five severities for each image size that has constants."""

    name: str
    family: str  # one of ALL_FAMILIES
    extra: bool  # False for the fifteen that mCE is made of
    severities: Mapping[int, tuple[Any, ...]]  # image size -> constants of severities 1 to 5
    version: int  # grows whenever the output changes
    function: Callable[..., Images]
    find_variant: Callable[[], str]
    bar: tuple[int, ...] = ()  # image sizes whose C-bar has it; () for what is not in C-bar

    @property
    def variant(self) -> str:
        """Name the outer source that the output depends on; "" normally.

        Results of different variants are not comparable and belong in different tables.
        """
        return self.find_variant()

    def published(self, size: int) -> bool:
        """Say whether the constants for a size are those of a published set, not ours."""
        return not self.bar or size in self.bar

    @property
    def random(self) -> bool:
        """Tell whether the output depends on examples and seed."""
        return "draws" in inspect.signature(self.function).parameters

    def apply(self, images: Bytes, severity: int, *, scale: int, draws: Draws) -> Bytes:
        """Corrupt a batch with the constants for `scale`, a key of `severities`, and given draws.

        Nothing is checked and the whole batch is computed in one piece; see `corrupt` for that.
        """
        constants = self.severities[scale][severity - 1]
        sources = (draws,) if self.random else ()
        # Whatever the caller trains in, and wherever the caller's new tensors would lie.
        with torch.autocast(images.device.type, enabled=False), torch.device("cpu"):
            return as_bytes(self.function(as_images(images), constants, *sources))


def corruption(
    family: str,
    severities: Mapping[int, tuple[Any, Any, Any, Any, Any]],
    *,
    extra: bool = False,
    version: int = 1,
    find_variant: Callable[[], str] = str,
    bar: tuple[int, ...] = (),
) -> Callable[[Function], Function]:
    """Register a function of (images, constants) or (images, constants, draws) under its name."""

    def register(function: Function) -> Function:
        name = function.__name__
        if name in _registered:
            raise ValueError(f"two corruptions are named {name!r}")
        new = Corruption(name, family, extra, severities, version, function, find_variant, bar)
        ordered = sorted([*_registered.values(), new], key=_place)
        _registered.clear()
        _registered.update({entry.name: entry for entry in ordered})
        return function

    return register


def registered() -> Mapping[str, Corruption]:
    """Return the corruptions in order: by family, then the extra ones, then those of C-bar.

    Those that are registered later appear in it too.
    """
    return MappingProxyType(_registered)


def _place(entry: Corruption) -> tuple[bool, bool, int]:
    return bool(entry.bar), entry.extra, ALL_FAMILIES.index(entry.family)
