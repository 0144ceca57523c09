"""The suite without a perturbation."""

from selbench.metrics import METRICS, Metric, RowFilter
from selbench.suites.pieces import Condition
from selbench.suites.work import SUITES, Setting, Work


@SUITES
def clean(setting: Setting) -> list[Work]:
    """The images as they are."""
    return [Condition("clean", "clean")]


METRICS(
    Metric(
        "clean",
        "clean",
        "accuracy on the test images as they are",
        "clean",
        RowFilter(("clean",), conditions=("clean",)),
        table="",
    )
)
