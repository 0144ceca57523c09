"""Figures: pure functions of a study's measurements."""

from selbench.figures import (
    ablation,
    attacks,
    calibration,
    corruptions,
    cost,
    mechanism,
    tradeoff,
    training,
)
from selbench.figures.style import FIGURES, check_figure, draw

__all__ = [
    "FIGURES",
    "ablation",
    "attacks",
    "calibration",
    "check_figure",
    "corruptions",
    "cost",
    "draw",
    "mechanism",
    "tradeoff",
    "training",
]
