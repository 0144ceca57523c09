"""Other measures of a unit's selectivity: mutual information with the class, and d'.

The class selectivity index compares two means. A unit that separates many classes a little has a
low index but much information. A unit whose two means differ by less than its variation from image
to image has a high index but a low d'.
"""

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from selbench._kit.errors import SelbenchError
from selbench.analyses.arguments import checked

BINS = 16  # equal widths from a unit's smallest to largest activity; the paper gives no number
COUNTED = 2**24  # cells of count tables that are held at once


@checked
def mutual_information(
    units: Float[Tensor, "examples units"],
    labels: Int64[Tensor, " examples"],
    classes: int,
    bins: int = BINS,
) -> Float64[Tensor, " units"]:
    """Return the mutual information of the class and each unit's binned activity, in bits.

    It lies between 0 and log2 of the number of classes. It is too large by about (bins - 1)
    (classes - 1) / (2 examples ln 2), so compare it with that of shuffled labels. Morcos et al.,
    2018, arXiv:1803.06959, section A.5, who use it as a control of the index; equal bin widths and
    their number are ours.

    Args:
        units: activities.
        labels: the examples' labels.
        classes: number of classes.
        bins: number of bins.

    Raises:
        SelbenchError: for wrong arguments.
    """
    _check(units, labels, classes)
    return information_of(units, labels[None], classes, bins)[0]


@checked
def discriminability(
    units: Float[Tensor, "examples units"], labels: Int64[Tensor, " examples"], classes: int
) -> Float64[Tensor, " units"]:
    """Return d' of each unit: the class with the largest mean against all other images.

    d' = (mu_max - mu_rest) / sqrt((var_max + var_rest) / 2), the distance of two means in units of
    the standard deviation from image to image (Green & Swets, 1966, Signal detection theory and
    psychophysics). The class is that of the class selectivity index; the rest are all images of
    other classes, with equal weights. It is 0 for a constant unit, and NaN for one that differs
    between the two groups but is constant within each.

    Args:
        units: activities.
        labels: the examples' labels.
        classes: number of classes.

    Raises:
        SelbenchError: for wrong arguments, or fewer than 2 classes.
    """
    _check(units, labels, classes)
    if len(labels.unique()) < 2:
        raise SelbenchError("d' needs examples of at least 2 classes")
    return d_prime_of(units, labels[None], classes)[0]


def information_of(
    units: Float[Tensor, "examples units"],
    labelings: Int64[Tensor, "labelings examples"],
    classes: int,
    bins: int = BINS,
) -> Float64[Tensor, "labelings units"]:
    """Return `mutual_information` for several labelings; waits for a GPU only once."""
    size = max(1, COUNTED // (len(labelings) * classes * bins))
    parts = [_information(few, labelings, classes, bins) for few in units.double().split(size, 1)]
    return torch.cat(parts, 1)


def d_prime_of(
    units: Float[Tensor, "examples units"],
    labelings: Int64[Tensor, "labelings examples"],
    classes: int,
) -> Float64[Tensor, "labelings units"]:
    """Return `discriminability` for several labelings."""
    values = units.double()
    values = values - values.mean(0)  # so that squares lose no digits
    members = torch.nn.functional.one_hot(labelings, classes).double().transpose(1, 2)
    counts = members.sum(2)[..., None].expand(-1, -1, values.shape[1])
    sums, squares = members @ values, members @ values.square()
    means = (sums / counts.clamp(min=1)).masked_fill(counts == 0, -torch.inf)
    best = means.argmax(1, keepdim=True)
    total, square, size = (each.gather(1, best)[:, 0] for each in (sums, squares, counts))
    mean, spread = _moments(total, square, size)
    others = _moments(sums.sum(1) - total, squares.sum(1) - square, len(values) - size)
    gap, scale = mean - others[0], ((spread + others[1]) / 2).sqrt()
    still = (values == 0).all(0)
    return torch.where(still, 0, torch.where(scale > 0, gap / scale, torch.nan))


def _moments(sums: Tensor, squares: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    mean = sums / counts
    return mean, (squares / counts - mean.square()).clamp(min=0)


def _information(
    units: Float64[Tensor, "examples few"], labelings: Tensor, classes: int, bins: int
) -> Float64[Tensor, "labelings few"]:
    low, high = units.aminmax(dim=0)
    width = torch.where(high > low, high - low, 1)
    binned = ((units - low) / width * bins).long().clamp_(max=bins - 1)
    shape = len(labelings), units.shape[1], classes, bins
    first = torch.arange(shape[0] * shape[1], device=units.device).view(shape[0], 1, shape[1])
    places = (first * classes + labelings[..., None]) * bins + binned
    table = torch.bincount(places.flatten(), minlength=math.prod(shape)).double()
    joint = table.view(shape) / len(units)
    of_class, of_bin = joint.sum(3, keepdim=True), joint.sum(2, keepdim=True)
    terms = torch.special.xlogy(joint, joint / (of_class * of_bin).clamp(min=1e-300))
    bits: Tensor = terms.sum((2, 3)) / math.log(2)
    return bits.clamp(min=0)


def _check(units: Tensor, labels: Tensor, classes: int) -> None:
    if not len(units):
        raise SelbenchError("units of at least 1 example are needed, got none")
    if not bool(units.isfinite().all()):
        raise SelbenchError("units hold NaN or infinity; has the network's training diverged?")
    if labels.min() < 0 or labels.max() >= classes:
        raise SelbenchError(
            f"labels are in 0 to {classes - 1} for {classes} classes, got {labels.min().item()} to "
            f"{labels.max().item()}"
        )
