"""Probe networks with a few images before the run: whether they fit, and their habits."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from selbench._kit.deadline import Clock, OutOfTimeError
from selbench._kit.device import measuring
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT, Progress
from selbench._kit.types import Images, Logits, to_images
from selbench.datasets import Dataset
from selbench.networks.classes import Outputs, other_number
from selbench.networks.habits import CHECKS
from selbench.networks.look import Look
from selbench.networks.network import Network
from selbench.networks.refusals import refusal
from selbench.networks.zoo import reason_of
from selbench.store.findings import DRAWS, RANDOM, Finding, draw_name, finding_sentences

RAISED = (Exception, SystemExit)  # by a network, whose code may do anything
WARM = 10  # seconds that a probe may take in addition to those of a cell


def probed(
    networks: Sequence[Network],
    dataset: Dataset,
    known: Mapping[str, Sequence[Finding]] | None = None,
    progress: Progress = SILENT,
    time_limit: float | None = None,
) -> list[Network]:
    """Return networks with their findings; one with random outputs becomes several draws.

    Args:
        networks: the networks under test.
        dataset: the data set, whose test images are used.
        known: earlier findings, by the hash of the weights.
        progress: called after every network.
        time_limit: seconds that a network may compute for a cell; a network that does not answer
            the probe in time fails in every cell.
    """
    late: dict[str, OutOfTimeError] = {}
    found = {weights: tuple(findings) for weights, findings in (known or {}).items()}
    new = [each for each in networks if each.weights not in found]
    with progress.track("probe", len(new)) as step:
        for each in new:
            try:
                with Clock(None if time_limit is None else time_limit + WARM).running():
                    found[each.weights] = habits_of(each, dataset)
            except OutOfTimeError as problem:
                late[each.weights] = problem
                found[each.weights] = (Finding("fails", f"did not answer to the probe: {problem}"),)
            step(1, each.name)
    for sentence in finding_sentences({each.name: found[each.weights] for each in new}):
        progress.say(sentence)
    networks = [
        each.unanswering(late[each.weights]) if each.weights in late else each for each in networks
    ]
    return [
        draw for each in networks for draw in _draws(replace(each, findings=found[each.weights]))
    ]


def _draws(network: Network) -> list[Network]:
    if all(each.code != RANDOM for each in network.findings):
        return [network]
    return [
        replace(
            network,
            name=draw_name(network.name, number),
            weights=network.weights if number == 1 else f"{network.weights}-{number}",
        )
        for number in range(1, DRAWS + 1)
    ]


@measuring()
def habits_of(network: Network, dataset: Dataset) -> tuple[Finding, ...]:
    """Return the findings of all checks of a network, on the CPU; an error is a finding too."""
    look = Look(network, dataset)
    try:
        return tuple(each for check in CHECKS for each in check(look))
    except SelbenchError:
        raise
    except RAISED as problem:
        return (
            Finding("fails", f"fails on some images ({reason_of(problem)}); mend what it says"),
        )


def probe(network: nn.Module, dataset: Dataset, name: str) -> Logits:
    """Return the logits of the first two test images, computed on the CPU.

    Raises:
        SelbenchError: if the network fails on such images, one by one or together, writes into
            them, or does not return finite numbers of shape (images, outputs).
    """
    images = to_images(dataset.test.images[:2].cpu())
    given = images.clone()
    logits = _checked(_output(network, given, name), images, name)
    if not torch.equal(given, images):
        raise SelbenchError(
            f"{name} writes into its input images, which other networks share; begin "
            "its forward pass with a copy, or use no in-place operations on images"
        )
    alone = _output(network, images[:1], name)
    if alone.ndim != logits.ndim:
        raise SelbenchError(
            f"{name} makes {tuple(alone.shape)} of a batch of one image, so its batch axis is "
            "lost; name the axes in its squeeze(), or use flatten(1)"
        )
    return logits.float()


def _output(network: nn.Module, images: Images, name: str) -> Tensor:
    """Return a network's output for images; raise `SelbenchError` unless it is a tensor."""
    try:
        with torch.no_grad():
            logits = network(images)
    except RAISED as problem:
        raise refusal(network, images, name, problem) from problem
    if not isinstance(logits, Tensor):
        raise SelbenchError(
            f"{name} returns a {type(logits).__name__}, not a tensor of logits; wrap it in a "
            "module that returns them"
        )
    return logits


def _checked(logits: Tensor, images: Images, name: str) -> Logits:
    if logits.ndim != 2 or len(logits) != len(images) or not logits.is_floating_point():
        cure = "bring a classifier"
        if logits.ndim > 2 and logits[:1].numel() == logits.shape[1]:
            cure = "add flatten(1) at its end"
        raise SelbenchError(
            f"{name} makes {tuple(logits.shape)} of {len(images)} images, not one row of logits "
            f"for each; {cure}"
        )
    if not logits.isfinite().all():
        raise SelbenchError(
            f"{name} returns logits that are not finite; look at its weights and normalisation"
        )
    return logits


def check_logits(logits: Logits, outputs: Outputs | None, dataset: Dataset, name: str) -> None:
    """Refuse a wrong number of outputs; warn about outputs that look like probabilities.

    Raises:
        SelbenchError: if the number of outputs does not fit the classes.
    """
    number = logits.shape[1]
    if outputs is None and number != len(dataset.classes):
        raise other_number(name, number, dataset)
    last = max(max(group) for group in outputs) if outputs else 0
    if last >= number:
        raise SelbenchError(
            f"the class map names the output {last}, but {name} has {number}, from 0 to "
            f"{number - 1}; name outputs that it has"
        )
    if (logits >= 0).all() and torch.allclose(logits.sum(1), torch.ones(len(logits)), atol=1e-4):
        warnings.warn(
            f"{name} seems to return probabilities, not logits; attacks that follow gradients "
            "will find it harder to fool than it is",
            RuntimeWarning,
            stacklevel=2,
        )
