"""What perturbations cannot do: bounds of a network's values, and certificates made of them."""

from selbench.bounds.certified import bounded_margins, certify
from selbench.bounds.interval import Box, Traced, ball, traced
from selbench.bounds.program import UnboundedError

__all__ = ["Box", "Traced", "UnboundedError", "ball", "bounded_margins", "certify", "traced"]
