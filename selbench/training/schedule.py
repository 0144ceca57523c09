"""The learning rate at every step."""

import math

from selbench.study import Recipe


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """Return the learning rate at `epoch`, counted from 0, with fractions within an epoch.

    It rises linearly over `warmup_epochs`; then "step" multiplies it by `decay` at every milestone,
    and "cosine" lowers it to zero at the end.
    """
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * epoch / recipe.warmup_epochs
    if recipe.schedule == "step":
        return recipe.learning_rate * recipe.decay ** sum(epoch >= m for m in recipe.milestones)
    done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.learning_rate * (1 + math.cos(math.pi * done)) / 2
