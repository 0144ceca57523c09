"""Class selectivity of units: their activations, their axes in tensors, and the index."""

from selbench.selectivity.index import (
    EPSILON,
    class_means,
    index_of,
    mean_selectivity,
    selectivity_index,
)
from selbench.selectivity.recording import Change, Keep, RecordedUnits, running, spatial_mean

__all__ = [
    "EPSILON",
    "Change",
    "Keep",
    "RecordedUnits",
    "class_means",
    "index_of",
    "mean_selectivity",
    "running",
    "selectivity_index",
    "spatial_mean",
]
