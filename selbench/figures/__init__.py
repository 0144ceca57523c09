"""Figures: pure functions from a study's measurements."""

from selbench._kit.registry import discover
from selbench.figures.style import FIGURES, check_figure, draw

__all__ = [
    "FIGURES",
    "check_figure",
    "draw",
]

discover(__name__)
