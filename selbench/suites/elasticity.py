"""The suite of local elasticity."""

from functools import partial

from torch import nn

from selbench._kit.types import to_images
from selbench.analyses.elasticity import clusterings, contrast, correlation, local_elasticity
from selbench.datasets import Split, limited
from selbench.metrics import AMOUNT, METRICS, NUMBER, Metric, Panel, RowFilter, Unit
from selbench.store import Measurement
from selbench.suites.gradients import TABLE
from selbench.suites.layered import looked_at
from selbench.suites.pieces import Analysis
from selbench.suites.work import SUITES, Passes, Setting, Work

IMAGES = 100  # images at most, or 2 of each class: the cost is quadratic


@SUITES
def elasticity(setting: Setting) -> list[Work]:
    """Local elasticity: how a step on one image moves others, within and between classes."""
    measure = partial(_measure_elasticity, layers=setting.mechanism.layers)
    source = looked_at("original", setting)
    return [Analysis("elasticity", "clean", measure, _passes, IMAGES, source=source)]


def _passes(model: nn.Module, split: Split, classes: int) -> Passes:
    """Count a step on each image, a pass of all images after it, and one pass for clustering."""
    images = min(len(split), max(IMAGES, 2 * classes))
    return Passes(forward=1, backward=1, double=1 + images)


def _measure_elasticity(
    model: nn.Module, split: Split, classes: int, layers: str | None
) -> list[Measurement]:
    split = limited(split, max(IMAGES, 2 * classes))
    images, labels = to_images(split.images), split.labels
    found = local_elasticity(model, images, labels)
    relative, kernel = contrast(found.relative, labels), contrast(correlation(found.kernel), labels)
    accuracies = clusterings(model, images, labels, found, layers=layers)
    values = {
        "elasticity_within": relative.within,
        "elasticity_between": relative.between,
        "elasticity_ratio": relative.ratio,
        "elasticity_kernel_within": kernel.within,
        "elasticity_kernel_between": kernel.between,
        **{f"clustering_{name}": accuracy for name, accuracy in accuracies.items()},
    }
    return [Measurement(metric, value, len(split)) for metric, value in values.items()]


_SUITE, _CLEAN = ("elasticity",), ("clean",)
_SOURCE = "arXiv:1910.06943"
for _where, _title, _axis in (
    ("within", "within a class", "relative change of the logits"),
    ("between", "between classes", ""),
):
    METRICS(
        Metric(
            f"elasticity_{_where}",
            f"change {_title}",
            f"how much a training step on one image moves the logits of others {_title}",
            "elasticity",
            RowFilter(_SUITE, f"elasticity_{_where}", _CLEAN),
            unit=NUMBER,
            better=0,
            bounds=AMOUNT,
            source=_SOURCE,
            board="",
            panel=Panel("elasticity", _title, _axis),
        )
    )
METRICS(
    Metric(
        "elasticity",
        "elasticity",
        "how much more a training step moves images of its own class than others",
        "elasticity",
        RowFilter(_SUITE, "elasticity_ratio", _CLEAN),
        unit=Unit(decimals=2),
        better=0,
        bounds=AMOUNT,
        source=_SOURCE,
        table=TABLE,
        panel=Panel("elasticity", "within over between", "ratio"),
    )
)
