"""Networks under test: images in [0, 1] in, logits out, normalisation inside."""

from selbench.models import cifar, imagenet
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
    "cifar",
    "fitting",
    "imagenet",
    "load_weights",
    "options_of",
    "outputs_in",
    "read_state",
    "recognised_blocks",
    "recognised_options",
]
