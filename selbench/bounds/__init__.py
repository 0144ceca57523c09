"""Bounds of a network's outputs under perturbations, and certificates derived from them."""

from selbench._kit.errors import UnboundedError
from selbench.bounds.certified import bounded_margins, certify
from selbench.bounds.interval import Box, Traced, ball, traced

__all__ = ["Box", "Traced", "UnboundedError", "ball", "bounded_margins", "certify", "traced"]
