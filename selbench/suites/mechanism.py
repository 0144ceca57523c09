"""The suite of all measurements that may explain robustness."""

from selbench.suites.clean import clean
from selbench.suites.elasticity import elasticity
from selbench.suites.gradients import gradients, jacobian
from selbench.suites.representation import dimensionality
from selbench.suites.selectivity import selectivity
from selbench.suites.work import SUITES, Setting, Work, without_repeats


@SUITES
def mechanism(setting: Setting) -> list[Work]:
    """All of selectivity, dimensionality, gradients, jacobian and elasticity; clean accuracy."""
    suites = (clean, selectivity, dimensionality, gradients, jacobian, elasticity)
    return without_repeats(piece for suite in suites for piece in suite(setting))
