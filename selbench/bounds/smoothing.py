"""Randomised smoothing: the class that a network returns most often for an image with noise.

The smoothed classifier is not the network itself: it withstands every L2 perturbation up to a
radius that follows from its share of votes. Cohen, Rosenfeld & Kolter, 2019, arXiv:1902.02918.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from corruptions.draws import KeyedDraws
from selbench._kit.chunks import in_chunks
from selbench._kit.types import Examples, Images

ABSTAINS = -1  # returned instead of a class
CHOOSING, COUNTING = 100, 1000  # noise draws per image: to choose a class, to count its votes
RISK = 0.001  # probability that an image's certificate is wrong


@dataclass(frozen=True)
class Smoothed:
    """Predictions of a smoothed network, with certified radii.

    Attributes:
        prediction: the class, or `ABSTAINS` if no class certainly has more than half of the votes.
        radius: radius of the L2 ball with the same prediction, for pixels in [0, 1]; 0 if
            abstaining.
        votes: how many of the counting draws each class won.
    """

    prediction: Int64[Tensor, " batch"]
    radius: Float[Tensor, " batch"]
    votes: Int64[Tensor, "batch classes"]


@torch.inference_mode()
def smoothed(
    network: nn.Module,
    images: Images,
    examples: Examples,
    sigma: float,
    *,
    choosing: int = CHOOSING,
    counting: int = COUNTING,
    risk: float = RISK,
) -> Smoothed:
    """Return a smoothed network's predictions and their certified radii.

    The same example gets the same noise in every batch. Noisy images are not clipped.

    Args:
        network: in evaluation mode.
        images: in [0, 1].
        examples: their positions in the data set.
        sigma: standard deviation of the noise, for pixels in [0, 1].
        choosing: number of draws that choose a class.
        counting: number of further draws that count its votes.
        risk: probability that an image's certificate is wrong.
    """
    votes = _votes(network, images, examples, sigma, range(choosing))
    chosen = votes.argmax(1)
    counts = _votes(network, images, examples, sigma, range(choosing, choosing + counting))
    return _certified(chosen, counts, sigma, risk)


def _certified(chosen: Tensor, votes: Tensor, sigma: float, risk: float) -> Smoothed:
    from scipy.special import ndtri  # takes long to import, and tables import this module

    won = votes.gather(1, chosen[:, None])[:, 0].cpu().numpy()
    share = least_share(won, int(votes[0].sum()), risk)
    radius = np.where(share > 0.5, sigma * ndtri(np.maximum(share, 0.5)), 0.0)
    certain = torch.from_numpy(share > 0.5).to(chosen.device)
    return Smoothed(
        torch.where(certain, chosen, ABSTAINS), torch.from_numpy(radius).to(chosen.device), votes
    )


def least_share(votes: np.ndarray, of: int, risk: float) -> np.ndarray:
    """Return one-sided lower bounds of probabilities, each wrong with probability `risk` at most.

    Clopper & Pearson, 1934, Biometrika 26(4).
    """
    from scipy.special import betaincinv

    bound = betaincinv(votes, of - votes + 1, risk)
    found: np.ndarray = np.where(votes == 0, 0.0, bound)
    return found


def _votes(
    network: nn.Module, images: Images, examples: Examples, sigma: float, draws: range
) -> Int64[Tensor, "batch classes"]:
    """Return how often each class wins, over draws of noise."""
    counts: Tensor | None = None
    for number in draws:
        noise = KeyedDraws(f"smoothing/{number}", examples).normal(*images.shape[1:])
        (logits,) = in_chunks(lambda part: (network(part),), images + sigma * noise)
        won = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1])
        counts = won if counts is None else counts + won
    assert counts is not None, "no draws"
    return counts
