"""Statistics against closed forms and coverage."""

import math

import numpy as np
import pytest

from selbench.stats import mean_interval


def test_interval_of_three_values_is_students():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert mean_interval([0.5])[0] == 0.5
    assert math.isnan(mean_interval([0.5])[1])
    assert math.isnan(mean_interval([])[0])


def test_missing_values_are_left_out():
    assert mean_interval([1.0, math.nan, 3.0]) == mean_interval([1.0, 3.0])


@pytest.mark.parametrize("n", [2, 3, 10])
def test_interval_covers_the_mean_as_often_as_it_says(n):
    samples = np.random.default_rng(0).normal(size=(2000, n))
    covered = [abs(mean) <= half for mean, half in (mean_interval(list(s)) for s in samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
