"""Networks under test: images in [0, 1] in, logits out, normalisation inside."""

from selbench.models import cifar, imagenet
from selbench.models.build import MODELS, Normalize, build_model, load_weights, read_state

__all__ = ["MODELS", "Normalize", "build_model", "cifar", "imagenet", "load_weights", "read_state"]
