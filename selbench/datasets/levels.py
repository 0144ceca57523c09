"""Convert images to levels from 0 to 255 and labels to numbers from 0, if unambiguous."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.types import Labels

TOP = 255
SLACK = 1e-4  # tolerance of [0, 1] for float images, for rounding and interpolation
MODES = ("1", "L", "P", "RGB")  # PIL modes that convert to RGB without loss
CURE = (
    "take Normalize out of the transforms, and put it into the network, as in "
    "torch.nn.Sequential(torchvision.transforms.Normalize(mean, std), network)"
)


def tensor_of(values: Any, what: str) -> Tensor:
    """Return numbers as a tensor on the CPU; raise `SelbenchError` for anything else."""
    if isinstance(values, Image.Image):
        if values.mode not in MODES:
            raise SelbenchError(
                f"{what} of mode {values.mode} may have transparency or more than 8 bits; convert "
                'them with image.convert("RGB")'
            )
        values = np.array(values.convert("RGB"))
    if isinstance(values, Tensor):
        return values.detach().cpu()
    try:
        array = np.asarray(values)
        return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))
    except (TypeError, ValueError) as problem:
        kind = getattr(values, "dtype", type(values).__name__)
        raise SelbenchError(f"{what} are numbers in a tensor or an array, got {kind}") from problem


def pixels_first(images: Any, number: int) -> Tensor:
    """Return images as (batch, 3, height, width), from either order of the axes.

    Raises:
        SelbenchError: if the axis of the channels is ambiguous, or the number of images is not the
            `number` of labels.
    """
    found = tensor_of(images, "images")
    shape = tuple(found.shape)
    if found.ndim not in (3, 4):
        raise SelbenchError(
            "images are batch x 3 x height x width, or batch x height x width x 3, or grey, got "
            f"{shape}"
        )
    if len(found) != number:
        raise SelbenchError(f"there are {len(found)} images and {number} labels; give one for each")
    if found.ndim == 3:
        return found[:, None].expand(-1, 3, -1, -1)
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        raise _uncertain(shape) if first else _not_rgb(shape)
    return (found if first else found.permute(0, 3, 1, 2)).expand(-1, 3, -1, -1)


def _not_rgb(shape: tuple[int, ...]) -> SelbenchError:
    return SelbenchError(
        f"images have 3 channels, or 1 where they are grey, got {shape}; convert them to RGB"
    )


def _uncertain(shape: tuple[int, ...]) -> SelbenchError:
    return SelbenchError(
        f"it is not certain which axis of images of {shape} has the channels; give them as batch x "
        "3 x height x width of more than 3 pixels"
    )


def levels(images: Tensor, unit: bool | None) -> tuple[Tensor, bool]:
    """Return images as uint8, and whether they were in [0, 1].

    Args:
        images: in [0, 1], or whole numbers from 0 to 255.
        unit: whether the images before were in [0, 1]; None for the first.

    Raises:
        SelbenchError: for other values, and for values that fit both.
    """
    if images.is_complex() or images.is_quantized or images.dtype == torch.bfloat16:
        raise SelbenchError(f"images are uint8 or floats of 16 bits and more, got {images.dtype}")
    if images.numel() == 0:
        raise SelbenchError(f"there are no pixels in images of {tuple(images.shape)}")
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * TOP, True
    low, high = images.min().item(), images.max().item()
    if not images.is_floating_point():
        return _from_whole_levels(images, low, high), False
    if not images.isfinite().all():
        raise SelbenchError("images have values that are not finite; look at how they are made")
    if low < -SLACK:
        scaled = "; they look scaled to [-1, 1]" if low >= -1 - SLACK and high <= 1 + SLACK else ""
        raise SelbenchError(
            f"images have values from {low:.3g} to {high:.3g}, so they are normalised{scaled}; "
            f"{CURE}"
        )
    if high <= 1 + SLACK and unit is not False:
        return (images.double() * TOP).round().clamp(0, TOP).to(torch.uint8), True
    if not unit and high <= TOP and bool((images == images.round()).all()):
        return images.to(torch.uint8), False
    raise SelbenchError(
        f"images are floats in [0, 1], or whole numbers from 0 to 255, got values up to {high:.6g}"
        f"{' after images in [0, 1]' if unit else ''}; divide by their largest value, or remove "
        "the normalisation"
    )


def _from_whole_levels(images: Tensor, low: float, high: float) -> Tensor:
    if low < 0 or high > TOP:
        raise SelbenchError(
            f"images are whole numbers from 0 to 255, got {low} to {high}; convert them to 8 bits"
        )
    if high == 1:
        raise SelbenchError(
            f"images are {str(images.dtype).removeprefix('torch.')} of 0 and 1 alone, as images in "
            "[0, 1] become when they are cast; multiply by 255 before that"
        )
    return images.to(torch.uint8)


def labels_of(labels: Any, number: int, names: Sequence[str]) -> tuple[Labels, bool]:
    """Return labels as whole numbers, and whether they were names of classes.

    Args:
        labels: numbers, one for each image; or one-hot rows, or names.
        number: the number of images.
        names: the names of the classes; () if unknown.
    """
    values = list(labels) if isinstance(labels, tuple | list) else labels
    if isinstance(values, list) and values and isinstance(values[0], Tensor | np.ndarray):
        values = torch.stack([tensor_of(each, "labels") for each in values])
    if _are_texts(values):
        return _named([str(each) for each in np.asarray(values).reshape(-1)], names), True
    found = tensor_of(values, "labels")
    if found.ndim == 2 and found.shape[1] > 1 and len(found) == number:
        return _of_rows(found, names), True
    if found.numel() != number:
        shape = tuple(found.shape)
        raise SelbenchError(f"there are {number} images and labels of {shape}; give one for each")
    found = found.reshape(-1)
    if found.dtype == torch.bool and len(names) not in (0, 2):
        raise SelbenchError(f"labels are true or false for {len(names)} classes; give numbers")
    if found.is_complex() or (found.is_floating_point() and not found.equal(found.round())):
        odd = found[found != found.round()]
        raise SelbenchError(
            f"labels are class numbers, got {odd[0].item() if len(odd) else found.dtype}; give "
            "whole numbers, one for each image"
        )
    return found.to(torch.int64), False


def _are_texts(values: Any) -> bool:
    if isinstance(values, Tensor):
        return False
    kind = np.asarray(values)
    return kind.dtype.kind in "US" or (kind.dtype == object and isinstance(kind.flat[0], str))


def _named(texts: Sequence[str], names: Sequence[str]) -> Labels:
    places = {name: place for place, name in enumerate(names)}
    if not names:
        raise SelbenchError(
            f"labels are texts such as {texts[0]!r:.40}, whose order among the outputs is "
            "not known; give their numbers, from 0"
        )
    for text in texts:
        if text not in places:
            raise unknown("class among the labels", text, names)
    return torch.tensor([places[text] for text in texts])


def _of_rows(rows: Tensor, names: Sequence[str]) -> Labels:
    """Return the column of the 1 in each one-hot row."""
    if not bool((((rows == 0) | (rows == 1)).all(1) & (rows.sum(1) == 1)).all()):
        raise SelbenchError(
            f"labels of {tuple(rows.shape)} are no one-hot rows, a single 1 among zeros; give one "
            "class number for each image"
        )
    if names and rows.shape[1] != len(names):
        raise SelbenchError(
            f"labels are one-hot rows of {rows.shape[1]} classes, the data set has {len(names)}; "
            "give one column for each"
        )
    return rows.to(torch.int64).argmax(1)


def numbered(labels: Sequence[Tensor], classes: Sequence[str], certain: bool) -> list[Tensor]:
    """Return the labels of all splits, numbered from 0; subtract 1 if they start at 1.

    They start at 1 if the number of classes is among them and 0 is not.

    Raises:
        SelbenchError: for a label that is not a class number.
    """
    number = len(classes)
    low = min(int(each.min()) for each in labels if len(each))
    high = max(int(each.max()) for each in labels if len(each))
    if low == 1 and high == number and not certain:
        return [each - 1 for each in labels]
    if low < 0 or high >= number:
        raise SelbenchError(
            f"labels are numbers of {number} classes, from 0 to {number - 1}, got "
            f"{low if low < 0 else high}; leave out images without a class, and number the classes "
            "from 0"
        )
    return list(labels)
