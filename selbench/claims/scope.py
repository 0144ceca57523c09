"""Who a claim is about: its own networks, others of their kind, or others."""

import re
from typing import Literal

from selbench.claims.claim import Claim, Test

Standing = Literal["own", "kind", "other"]
SMALL = re.compile(r"resnet(8|20|32|44|56|110)")  # one architecture in several depths


def standing(network: str, claim: Claim) -> Standing:
    """Say whether a claim speaks of a network, of others of its kind, or of other ones.

    Args:
        network: "model/data set" and what sets it apart, as claims and studies name it.
        claim: what is claimed.
    """
    if not claim.networks or network in claim.networks:
        return "own"
    return "kind" if kind(network) in map(kind, claim.networks) else "other"


def kind(network: str) -> str:
    """Return the model and the data of a network's kind.

    ResNets for small images are one kind at every depth and width; a folder whose name begins with
    that of a data set, as "cifar10-jpeg", holds images of it. Other methods of training, and parts
    of the classes, make another kind.
    """
    own, *apart = network.split(", ")
    if any(each.endswith("classes") or each.startswith("trained with") for each in apart):
        return network
    model, _, data = own.partition("/")
    data = re.sub(r"^folder (cifar10|tiny-imagenet)-.*", r"\1", data)
    return f"{'small resnet' if SMALL.fullmatch(model) else model}/{data}"


def tests_for(network: str, claim: Claim) -> tuple[Test, ...]:
    """Return the tests that are about a network, or about the claim's first one for another."""
    if standing(network, claim) == "other":
        network = claim.networks[0]
    return tuple(
        test
        for test in claim.tests
        if not test.networks or kind(network) in map(kind, test.networks)
    )
