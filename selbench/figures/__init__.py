"""Figures: pure functions of a study's measurements."""

from selbench.figures import attacks, mechanism
from selbench.figures.style import FIGURES, draw

__all__ = ["FIGURES", "attacks", "draw", "mechanism"]
