"""Which networks a claim is about: certain ones, their kind, or others."""

import re
from typing import Literal

from selbench.claims.claim import Claim, Test

Standing = Literal["own", "kind", "other"]
SMALL = re.compile(r"resnet(8|20|32|44|56|110)")  # one architecture at several depths


def standing(network: str, claim: Claim) -> Standing:
    """Return whether a claim is about a network ("own"), its kind, or others.

    Args:
        network: "model/data set" and any differences, as claims and studies name it.
        claim: what is claimed.
    """
    if not claim.networks or network in claim.networks:
        return "own"
    return "kind" if kind(network) in map(kind, claim.networks) else "other"


def kind(network: str) -> str:
    """Return the kind of a network, as "model/data set".

    ResNets for small images are one kind at every depth and width. A folder whose name begins with
    that of a data set, such as "cifar10-jpeg", counts as that data set. Other training methods and
    subsets of the classes make another kind.
    """
    name, *apart = network.split(", ")
    if any(each.endswith("classes") or each.startswith("trained with") for each in apart):
        return network
    model, _, data = name.partition("/")
    data = re.sub(r"^folder (cifar10|tiny-imagenet)-.*", r"\1", data)
    return f"{'small resnet' if SMALL.fullmatch(model) else model}/{data}"


def tests_for(network: str, claim: Claim) -> tuple[Test, ...]:
    """Return the tests that apply to a network; for another one, those for the claim's first."""
    if standing(network, claim) == "other":
        network = claim.networks[0]
    return tuple(
        test
        for test in claim.tests
        if not test.networks or kind(network) in map(kind, test.networks)
    )
