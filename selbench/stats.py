"""Statistics of measurements."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the mean and the half width of Student's t interval for it.

    Missing values (NaN) are left out. The half width is NaN for fewer than two values: a lone
    value tells nothing of the spread between seeds.
    """
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if len(kept) == 0:
        return math.nan, math.nan
    if len(kept) == 1:
        return float(kept[0]), math.nan
    quantile = stdtrit(len(kept) - 1, (1 + level) / 2)  # of Student's t
    return float(kept.mean()), float(quantile * kept.std(ddof=1) / math.sqrt(len(kept)))


def prediction_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return where a further value lies with this probability, if values are normal.

    Student's t interval, wider than that of the mean by the spread of the further value itself;
    NaN for fewer than two values.
    """
    mean, half = mean_interval(values, level)
    reach = half * math.sqrt(len(values) + 1)
    return mean - reach, mean + reach
