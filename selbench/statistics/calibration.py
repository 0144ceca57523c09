"""Calibration errors (the gap between confidence and accuracy), and recalibration.

Confidences are probabilities of the predicted class; numpy arrays, or tensors on the CPU.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from selbench._kit.errors import SelbenchError
from selbench._kit.randomness import seeded
from selbench._kit.types import Labels, Logits

Confidences = Float[np.ndarray, " _examples"] | Float[Tensor, " _examples"]  # in [0, 1]
Correct = Bool[np.ndarray, " _examples"] | Bool[Tensor, " _examples"]
Checked = tuple[Float64[np.ndarray, " examples"], Float64[np.ndarray, " examples"]]
Excess = Float64[np.ndarray, "*draws examples+1"]

BINS = 15
KNOTS = 6
FEWEST = 10  # examples to fit a recalibration to
DRAWS = 20  # draws of labels, for errors by chance
ROUNDING = 1e-5  # rounding by which a softmax in single precision may exceed 1


@dataclass(frozen=True)
class Errors:
    """Calibration errors of one set of examples, in [0, 1]."""

    ece: float
    ks: float


def expected_calibration_error(
    confidences: Confidences, correct: Correct, bins: int = BINS
) -> float:
    """Return the mean gap between confidence and accuracy within bins of equal width.

    Bins are weighted by their examples. Guo et al., 2017, arXiv:1706.04599.
    """
    scores, hits = _checked(confidences, correct)
    return float(_ece(scores, _excess(scores, hits), bins))


def ks_error(confidences: Confidences, correct: Correct) -> float:
    """Return the largest gap between cumulated confidence and cumulated accuracy.

    Both are cumulated over examples of rising confidence and divided by their number: a
    Kolmogorov-Smirnov statistic, without bins. Examples of equal confidence are counted together,
    so that their order does not matter. Gupta et al., 2021, arXiv:2006.12800.
    """
    scores, hits = _checked(confidences, correct)
    return float(_ks(scores, _excess(scores, hits)))


def by_chance(confidences: Confidences, draws: int = DRAWS) -> Errors:
    """Return the errors of a perfectly calibrated network with these confidences.

    They are above 0 in a finite sample: the mean over `draws` labelings in which every prediction
    is right with the probability of its confidence. The draws are the same in every call.
    """
    scores, _ = _checked(confidences, np.ones(len(confidences), bool))
    generator = seeded("calibration by chance", 0)
    uniform = torch.rand(draws, len(scores), generator=generator, dtype=torch.float64).numpy()
    excess = _excess(scores, (uniform < scores).astype(np.float64))
    return Errors(float(_ece(scores, excess, BINS).mean()), float(_ks(scores, excess).mean()))


def brier_score(logits: Logits, labels: Labels) -> Float[Tensor, " batch"]:
    """Return each example's squared distance between probabilities and one-hot label, in [0, 2].

    Summed over classes. Brier, 1950, "Verification of forecasts expressed in terms of probability".
    """
    truth = F.one_hot(labels, logits.shape[1])
    return (logits.softmax(1) - truth).square().sum(1)


def negative_log_likelihood(logits: Logits, labels: Labels) -> Float[Tensor, " batch"]:
    """Return minus the logarithm of each label's probability: the cross-entropy."""
    return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True, eq=False)
class Spline:
    """A monotone map from confidences to recalibrated ones; call it with an array of confidences.

    It is linear between `scores`; confidences above all of them get the value of the highest, those
    below all of them are scaled like the lowest.
    """

    scores: Float64[np.ndarray, " _"]
    values: Float64[np.ndarray, " _"]

    @classmethod
    def fit(cls, confidences: Confidences, correct: Correct, knots: int = KNOTS) -> "Spline":
        """Fit to examples that the network was not trained on.

        A natural cubic spline with few knots is fitted by least squares to the share of right
        predictions, cumulated over examples of rising confidence; its slope at an example is the
        recalibrated confidence. Gupta et al., 2021, arXiv:2006.12800. Two additions: the spline
        ends at the accuracy, so that recalibrated confidences have the accuracy as mean; and
        isotonic regression makes slopes rise, so that the order of examples is kept.

        Raises:
            SelbenchError: for fewer than `FEWEST` examples, and values that are no confidences.
        """
        from scipy.optimize import isotonic_regression

        scores, hits = _checked(confidences, correct)
        check_enough(len(scores))
        levels, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
        shares = np.bincount(place, hits) / counts  # examples of equal confidence get equal values
        cumulated = np.append(0, np.cumsum(shares[place])) / len(scores)
        fractions = np.linspace(0, 1, len(scores) + 1)
        smooth = _least_squares(fractions, cumulated, knots)
        ends = np.append(0, np.cumsum(counts))
        slopes = np.diff(smooth[ends]) / np.diff(fractions[ends])
        rising = isotonic_regression(slopes, weights=counts.astype(np.float64)).x.clip(0, 1)
        if levels[0] > 0:
            levels, rising = np.append(0, levels), np.append(0, rising)
        return cls(levels, rising)

    def __call__(self, confidences: Confidences) -> Float64[np.ndarray, " examples"]:
        """Return the recalibrated confidences."""
        mended: Float64[np.ndarray, " examples"] = np.interp(
            _probabilities(confidences), self.scores, self.values
        )
        return mended


def check_enough(examples: int) -> None:
    """Raise `SelbenchError` if there are too few examples to fit a recalibration to."""
    if examples < FEWEST:
        raise SelbenchError(
            f"recalibration needs at least {FEWEST} examples, got {examples}; hold more out"
        )


def _least_squares(
    x: Float64[np.ndarray, " points"], y: Float64[np.ndarray, " points"], knots: int
) -> Float64[np.ndarray, " points"]:
    """Return the natural cubic spline nearest to `y` at `x`, through the first and last point."""
    from scipy.interpolate import CubicSpline

    places = np.linspace(0, 1, knots)
    basis = CubicSpline(places, np.eye(knots), bc_type="natural")(x)
    fixed = basis[:, [0, -1]] @ y[[0, -1]]
    inner, *_ = np.linalg.lstsq(basis[:, 1:-1], y - fixed, rcond=None)
    fitted: Float64[np.ndarray, " points"] = fixed + basis[:, 1:-1] @ inner
    return fitted


def _excess(
    scores: Float64[np.ndarray, " examples"], hits: Float64[np.ndarray, "*draws examples"]
) -> Excess:
    """Cumulate accuracy minus confidence over examples of rising confidence, from 0."""
    cumulated = np.cumsum(hits - scores, axis=-1) / len(scores)
    return np.concatenate([np.zeros_like(cumulated[..., :1]), cumulated], axis=-1)


def _ece(scores: Float64[np.ndarray, " examples"], excess: Excess, bins: int) -> Any:
    edges = np.linspace(0, 1, bins + 1)
    edges[0] = -1  # a confidence of 0 is in the first bin
    ends = np.searchsorted(scores, edges, side="right")
    return np.abs(np.diff(excess[..., ends], axis=-1)).sum(axis=-1)


def _ks(scores: Float64[np.ndarray, " examples"], excess: Excess) -> Any:
    ends = np.append(np.flatnonzero(np.diff(scores)) + 1, len(scores))
    return np.abs(excess[..., ends]).max(axis=-1)


def _checked(confidences: Confidences, correct: Correct) -> Checked:
    """Return confidences in rising order, and whether each is right as 0 or 1."""
    scores, hits = _probabilities(confidences), np.asarray(correct, np.float64)
    if len(scores) != len(hits):
        raise SelbenchError(
            f"there are {len(scores)} confidences for {len(hits)} predictions; give one for each"
        )
    if not len(scores):
        raise SelbenchError("there is no example to measure calibration on; give some")
    order = np.argsort(scores, kind="stable")
    return scores[order], hits[order]


def _probabilities(confidences: Shaped[Any, " examples"]) -> Float64[np.ndarray, " examples"]:
    scores = np.asarray(confidences, np.float64)
    if not ((scores >= 0) & (scores <= 1 + ROUNDING)).all():  # also for NaN
        wrong = scores[~((scores >= 0) & (scores <= 1 + ROUNDING))][0]
        raise SelbenchError(
            f"a confidence is a probability from 0 to 1, got {wrong:g}; give the softmax of logits"
        )
    return scores.clip(max=1)
