"""The papers' figure of Tiny-ImageNet-C, digitised, as the rows of a study."""

import json

import pandas as pd

from corruptions import CORRUPTIONS

HIDDEN = {"jpeg", "snow", "elastic"}  # partly behind the legend or other curves
LEGEND = {36.3, 26.32, 26.34}  # marks of the legend, not of a curve
# Clean accuracy in per cent, ResNet18, off a figure of arXiv 2003.01262.
CLEAN = {
    -2: 52.95, -1: 53.62, -0.7: 53.36, -0.4: 53.24, -0.2: 52.69, 0: 51.57,
    0.2: 50.44, 0.4: 49.43, 0.7: 49.37, 1: 49.29, 2: 47.12,
}  # fmt: skip


def published(test_data):
    """Return one accuracy for each readable corruption, severity and alpha."""
    path = test_data / "published" / "leavitt2020_tiny_imagenet_c_resnet18.json"
    figure = json.loads(path.read_text())
    cells = [
        _row("corruptions", name, severity, float(alpha), value)
        for name, alphas in figure.items()
        if name not in HIDDEN
        for alpha, blobs in alphas.items()
        for severity, value in enumerate(_severities(blobs), 1)
    ]
    return pd.DataFrame([*cells, *(_row("clean", "clean", None, a, v) for a, v in CLEAN.items())])


def _severities(blobs):
    """Return five accuracies of [value, height] blobs; the tallest are two marks that touch."""
    found = [(height, value) for value, height in blobs if value not in LEGEND]
    while len(found) < 5:
        height, value = max(found)
        found.remove((height, value))
        found += [(height / 2, value)] * 2
    assert len(found) == 5
    return sorted((value for _, value in found), reverse=True)


def _row(suite, condition, level, alpha, accuracy):
    return {
        "suite": suite,
        "condition": condition,
        "level": level,
        "group": CORRUPTIONS[condition].family if condition in CORRUPTIONS else "",
        "source": "published",
        "metric": "accuracy",
        "subject": f"alpha={alpha:g}",
        "alpha": float(alpha),
        "seed": 0,
        "layer": pd.NA,
        "value": accuracy / 100,
        "n": 10000,
    }
