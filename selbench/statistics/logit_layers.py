"""Recalibration by a dense layer on the logits of a trained network: temperature, and a g-layer.

Both are fitted to the labels of images that the network was not trained on; the network itself
stays as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, Float64
from torch import Tensor

from selbench._kit.errors import SelbenchError
from selbench._kit.types import Labels
from selbench.statistics.calibration import check_enough

RANGE = 20.0  # temperatures are from 1 / RANGE to RANGE
DECAY = 100.0  # of the g-layer's weights towards the temperature, in nats per squared distance
BIAS_DECAY = 1.0  # of its bias towards 0
STEPS = 200  # of LBFGS, at most
LOWEST = -65504.0  # of half precision
AnyLogits = Float[Tensor, "batch classes"]
Logits64 = Float64[Tensor, "batch classes"]


@dataclass(frozen=True, eq=False)
class LogitLayer:
    """A dense layer on logits: call it with logits of any precision, for logits in float64.

    What is added to all logits of an image does not matter: its highest logit is set to 0 first.
    """

    weight: Float64[Tensor, "classes classes"]
    bias: Float64[Tensor, " classes"]

    def __call__(self, logits: AnyLogits) -> Logits64:
        """Return the recalibrated logits."""
        return F.linear(_lowered(logits), self.weight, self.bias)


Fit = Callable[[AnyLogits, Labels], LogitLayer]


def temperature(logits: AnyLogits, labels: Labels) -> LogitLayer:
    """Fit a temperature: all logits are divided by one number, so that predictions stay.

    It has the least cross-entropy of `labels`, from 1/20 to 20. Guo et al., 2017, arXiv:1706.04599.

    Raises:
        SelbenchError: for fewer than 10 images, and for images of one class.
    """
    from scipy.optimize import minimize_scalar

    lowered = _fittable(logits, labels)

    def loss(inverse: float) -> float:  # convex
        return F.cross_entropy(lowered * inverse, labels).item()

    inverse = minimize_scalar(loss, bounds=(1 / RANGE, RANGE), method="bounded").x
    classes = logits.shape[1]
    weight = inverse * torch.eye(classes, dtype=torch.float64)
    return LogitLayer(weight, torch.zeros(classes, dtype=torch.float64))


def g_layer(logits: AnyLogits, labels: Labels) -> LogitLayer:
    """Fit a dense layer, which may change predictions: each logit may depend on all others.

    Rahimi et al., 2020, arXiv:2006.12807, append trained layers to a network. Our choices: one
    layer, which starts as the temperature. It is a multiple of the identity, plus further weights,
    plus a bias. The summed cross-entropy of `labels` is minimised together with the squares of the
    weights (in units of the root mean square logit) and of the bias, times half `DECAY` and half
    `BIAS_DECAY`; the multiple is free. So few images give little more than a temperature, and with
    many the squares count for nothing. The sum is convex, so LBFGS needs no random numbers.

    Raises:
        SelbenchError: for fewer than 10 images, and for images of one class.
    """
    start, classes = temperature(logits, labels), logits.shape[1]
    scaled = start(logits)
    unit = scaled.square().mean().sqrt().item() or 1.0
    inputs = F.pad(scaled / unit, (0, 1), value=1.0)  # the last one is of the bias
    decays = torch.tensor([*classes * [DECAY], BIAS_DECAY], dtype=torch.float64) / 2

    def loss(multiple: Tensor, change: Tensor) -> Tensor:
        fitted = F.cross_entropy(scaled * multiple + inputs @ change.T, labels)
        return fitted + (decays * change.square()).sum() / len(labels)

    with torch.enable_grad():
        multiple = torch.ones((), dtype=torch.float64, requires_grad=True)
        change = torch.zeros(classes, classes + 1, dtype=torch.float64, requires_grad=True)
        _minimise(loss, multiple, change)
    moved = (
        multiple.item() * torch.eye(classes, dtype=torch.float64) + change.detach()[:, :-1] / unit
    )
    return LogitLayer(moved @ start.weight, change.detach()[:, -1].clone())


FITS: dict[str, Fit] = {"temperature": temperature, "g_layer": g_layer}  # by suffix of metrics


def compact(logits: AnyLogits) -> Float16[Tensor, "batch classes"]:
    """Return logits in half precision, the highest of each image at 0, where rounding is least."""
    return _lowered(logits).half()


def _lowered(logits: AnyLogits) -> Logits64:
    logits = logits.double()
    return (logits - logits.amax(1, keepdim=True)).clamp(min=LOWEST)


def _fittable(logits: AnyLogits, labels: Labels) -> Logits64:
    check_enough(len(labels))
    if (labels == labels[0]).all():
        raise SelbenchError(
            f"all {len(labels)} images to fit to are of class {int(labels[0])}, which says nothing "
            "about the others; hold more out"
        )
    return _lowered(logits)


def _minimise(loss: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Move parameters to where `loss` of them is least, by LBFGS."""
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=STEPS, tolerance_grad=1e-8, line_search_fn="strong_wolfe"
    )

    def slope() -> float:
        optimiser.zero_grad()
        total = loss(*parameters)
        total.backward()
        return total.item()

    optimiser.step(slope)
