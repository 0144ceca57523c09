"""When a search ends early: if a fifth of its steps have not brought it far enough."""

from jaxtyping import Bool
from torch import Tensor

from selbench.attacks.losses import Losses

SHARE = 0.2  # of the steps
# Shares of the way from the clean image to an error. Later, gradient attacks get at most a quarter
# further on a ResNet20, Square up to three times as far.
CLIMBED, TRIED = 2 / 3, 1 / 4


def checkpoint(steps: int) -> int:
    """Return the step after which searches without hope end."""
    return max(round(SHARE * steps), 1)


def hopeless(clean: Losses, reached: Losses, share: float) -> Bool[Tensor, " batch"]:
    """Return which margins have not risen by a share of the way from `clean` to 0."""
    return reached < (1 - share) * clean
