"""The suite without a perturbation."""

from selbench.suites.pieces import Condition
from selbench.suites.work import SUITES, Setting, Work


@SUITES
def clean(setting: Setting) -> list[Work]:
    """The images as they are."""
    return [Condition("clean", "clean")]
