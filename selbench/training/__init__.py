"""Training a network on cross-entropy minus alpha times its class selectivity."""

from selbench.training.loop import TRAINING_VERSION, Epoch, accuracy, make_optimizer, train
from selbench.training.trained import (
    TrainedFiles,
    adopt,
    find,
    flaws,
    train_and_validation,
    train_or_find,
    training_key,
    untrained,
    weights_hash,
)

__all__ = [
    "TRAINING_VERSION",
    "Epoch",
    "TrainedFiles",
    "accuracy",
    "adopt",
    "find",
    "flaws",
    "make_optimizer",
    "train",
    "train_and_validation",
    "train_or_find",
    "training_key",
    "untrained",
    "weights_hash",
]
