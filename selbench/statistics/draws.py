"""How many draws of a random event give its probability with a chosen error and confidence.

Both are chosen beforehand, as in Cardelli et al., 2019, arXiv:1903.01980. Errors are absolute.
"""

import math

import numpy as np
from jaxtyping import Bool, Int64

INTERVAL = 0.1  # part of the risk that is spent on intervals, which only decide when to stop

Counts = Int64[np.ndarray, "..."]


def most_draws(error: float, confidence: float) -> int:
    """Return the number of draws after which the share of hits is certainly close enough.

    Hoeffding, 1963, JASA 58(301): whatever the probability, the share differs from it by more than
    `error` with a probability of at most 1 - `confidence`.
    """
    return math.ceil(math.log(2 / (1 - confidence)) / (2 * error**2))


def enough(hits: Counts, draws: Counts, error: float, confidence: float) -> Bool[np.ndarray, "..."]:
    """Return where counts of hits allow to stop drawing.

    After every draw, a Clopper-Pearson interval of the probability gives the number of draws that
    the worst probability in it would need; far from 1/2 fewer draws are needed. Massart, 1990,
    Annals of Probability 18(3): a share is off by more than e, for a probability p up to 1/2, in at
    most 2 exp(-n e^2 / 2v) of all cases, where v is the variance at p + e/3. `draws` of 0 never
    allow it.
    """
    from scipy.special import betaincinv  # takes long to import

    risk, n = 1 - confidence, np.maximum(draws, 1)
    half = INTERVAL * risk / 2
    low = np.where(hits == 0, 0.0, betaincinv(np.maximum(hits, 1), n - hits + 1, half))
    high = np.where(hits == n, 1.0, betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - half))
    nearest = np.clip(0.5, low, high)  # the probability that needs the most draws
    away = np.maximum(np.abs(nearest - 0.5) - error / 3, 0)
    needed = 2 * (0.25 - away**2) * math.log(2 / (risk - 2 * half)) / error**2
    done: np.ndarray = (draws > 0) & (draws >= np.minimum(needed, most_draws(error, confidence)))
    return done
