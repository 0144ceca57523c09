"""Networks under test: images in [0, 1] in, logits out, normalisation inside."""

from selbench._kit.registry import discover
from selbench.models.build import MODELS, Normalize, build_model, options_of
from selbench.models.weights import (
    TOP,
    fitting,
    load_weights,
    outputs_in,
    read_state,
    recognised_blocks,
    recognised_options,
)

__all__ = [
    "MODELS",
    "TOP",
    "Normalize",
    "build_model",
    "fitting",
    "load_weights",
    "options_of",
    "outputs_in",
    "read_state",
    "recognised_blocks",
    "recognised_options",
]

discover(__name__)
