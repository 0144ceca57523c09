"""Robustness benchmarks for image classifiers, built round class selectivity."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selbench.analyses.axes import best_axes, rotated_selectivity
    from selbench.analyses.dimension import components, participation_ratio, spectrum_of, two_nn
    from selbench.analyses.dimensionality import dimensionality, perturbed_dimensionality
    from selbench.analyses.discriminability import discriminability, mutual_information
    from selbench.analyses.elasticity import clusterings, contrast, correlation, local_elasticity
    from selbench.analyses.gradients import gradient_norms, input_gradients
    from selbench.analyses.jacobian import jacobian_norms
    from selbench.analyses.selectivity import class_selectivity
    from selbench.evaluation import evaluate

__version__ = "0.1.0"
__all__ = [
    "best_axes",
    "class_selectivity",
    "clusterings",
    "components",
    "contrast",
    "correlation",
    "dimensionality",
    "discriminability",
    "evaluate",
    "gradient_norms",
    "input_gradients",
    "jacobian_norms",
    "local_elasticity",
    "mutual_information",
    "participation_ratio",
    "perturbed_dimensionality",
    "rotated_selectivity",
    "spectrum_of",
    "two_nn",
]
_MODULES = {
    "analyses.axes": ("best_axes", "rotated_selectivity"),
    "analyses.dimension": ("components", "participation_ratio", "spectrum_of", "two_nn"),
    "analyses.dimensionality": ("dimensionality", "perturbed_dimensionality"),
    "analyses.discriminability": ("discriminability", "mutual_information"),
    "analyses.elasticity": ("clusterings", "contrast", "correlation", "local_elasticity"),
    "analyses.gradients": ("gradient_norms", "input_gradients"),
    "analyses.jacobian": ("jacobian_norms",),
    "analyses.selectivity": ("class_selectivity",),
    "evaluation": ("evaluate",),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch takes seconds, and `selbench --help` does without."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"selbench.{module}"), name)
    raise AttributeError(f"module 'selbench' has no attribute {name!r}")
