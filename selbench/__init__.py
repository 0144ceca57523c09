"""Robustness benchmarks for image classifiers, with class selectivity."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corruptions import corrupt
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
    "corrupt",
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
    "corruptions": ("corrupt",),
    "selbench.analyses.axes": ("best_axes", "rotated_selectivity"),
    "selbench.analyses.dimension": ("components", "participation_ratio", "spectrum_of", "two_nn"),
    "selbench.analyses.dimensionality": ("dimensionality", "perturbed_dimensionality"),
    "selbench.analyses.discriminability": ("discriminability", "mutual_information"),
    "selbench.analyses.elasticity": ("clusterings", "contrast", "correlation", "local_elasticity"),
    "selbench.analyses.gradients": ("gradient_norms", "input_gradients"),
    "selbench.analyses.jacobian": ("jacobian_norms",),
    "selbench.analyses.selectivity": ("class_selectivity",),
    "selbench.evaluation": ("evaluate",),
}


def __getattr__(name: str) -> Any:
    """Import names on first use: torch takes seconds, and `selbench --help` does not need it."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'selbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return all names, also before they are imported."""
    return sorted({*globals(), *__all__})
