"""Find networks that are more accurate with other preprocessing or another order of classes."""

from collections.abc import Callable, Iterator

import torch
from scipy.optimize import linear_sum_assignment

from selbench._kit.types import Images, Labels
from selbench.networks.inputs import Preprocess
from selbench.networks.look import Look
from selbench.store.findings import Finding

GAIN = 0.15  # of accuracy, with other preprocessing or another order of classes


def near_chance(look: Look) -> Iterator[Finding]:
    """Find accuracy at chance, or far below that with another order of classes or preprocessing."""
    images, labels = look.many
    logits = look.logits(images)
    predictions, count = logits.argmax(1), len(labels)
    if count < 50 or look.blind or not logits.isfinite().all():
        return
    right = (predictions == labels).double().mean().item()
    yield from _other_order(predictions, labels, right)
    yield from _other_inputs(look, right)
    if right <= most_by_chance(labels):
        yield Finding(
            "chance",
            f"recognises {100 * right:.1f} % of {count} clean images, no more than chance; look at "
            "its weights, at the order of its classes (--class-map) and at --mean and --std",
        )


def most_by_chance(labels: Labels) -> float:
    """Return the accuracy that guesses exceed on 1 in 200 sets of images with these labels.

    A guess is right as often as the commonest class is.
    """
    chance = labels.bincount().max().item() / len(labels)
    return float(chance + 2.6 * (chance * (1 - chance) / len(labels)) ** 0.5)


def _other_order(predictions: Labels, labels: Labels, right: float) -> Iterator[Finding]:
    """Find outputs that are the classes in another order."""
    size = int(max(predictions.max(), labels.max())) + 1
    if len(labels) < 5 * size:
        return
    table = torch.zeros(size, size).index_put_(
        (predictions, labels), torch.ones(len(labels)), accumulate=True
    )
    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    best = table[rows, columns].sum().item() / len(labels)
    if best >= max(0.5, right + GAIN):
        yield Finding(
            "order_of_classes",
            f"recognises {100 * right:.1f} % of {len(labels)} clean images, and {100 * best:.1f} % "
            "if its outputs were the classes in another order; map them with --class-map",
        )


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _other_inputs(look: Look, right: float) -> Iterator[Finding]:
    """Find a normalisation or an order of channels with which the network is far more accurate."""
    images, labels = look.many
    given = next((m for m in look.network.modules() if isinstance(m, Preprocess)), None)
    if given is None or right > 0.85:
        return
    mean, std = given.inputs.mean, given.inputs.std
    ones, zeros = torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    m = zeros if mean is None else torch.tensor(mean).view(1, 3, 1, 1)
    s = ones if std is None else torch.tensor(std).view(1, 3, 1, 1)

    def under(change: Callable[[Images], Images]) -> float:
        """Return the accuracy with `change` instead of the normalisation."""
        inputs = change(images) * s + m  # to undo the given normalisation
        return (look.logits(inputs).argmax(1) == labels).double().mean().item()

    moments = [IMAGENET, HALVES, *([look.dataset.moments] if len(look.dataset.train) else [])]
    tries: dict[str, Callable[[Images], Images]] = {}
    if mean or std:
        tries["without --mean and --std; does it normalise itself?"] = lambda x: x
    for average, deviation in moments:
        if (average, deviation) != (mean, std):
            words = [",".join(f"{v:.3g}" for v in each) for each in (average, deviation)]
            tries[f"with --mean {words[0]} --std {words[1]}"] = _normalising(average, deviation)
    if not (mean or std):
        for average, deviation in moments:
            words = [",".join(f"{v:.3g}" for v in each) for each in (average, deviation)]
            way = f"where mean {words[0]} and std {words[1]} are undone; does it normalise twice?"
            tries[way] = _undone(average, deviation)
    tries["with images in 0..255; multiply by 255 in its forward pass"] = lambda x: 255 * x
    tries["with images in 0..1/255; does its forward pass multiply by 255?"] = lambda x: x / 255
    tries["with blue, green, red channels; reverse them in its forward pass"] = lambda x: (
        (x.flip(1) - m) / s
    )
    found = {words: under(change) for words, change in tries.items()}
    way, best = max(found.items(), key=lambda pair: pair[1])
    if best >= right + GAIN:
        yield Finding(
            "normalisation",
            f"recognises {100 * right:.1f} % of {len(labels)} clean images, and {100 * best:.1f} % "
            f"{way}",
        )


def _undone(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Callable[[Images], Images]:
    m, s = (torch.tensor(each).view(1, 3, 1, 1) for each in (mean, std))
    return lambda images: images * s + m


def _normalising(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Callable[[Images], Images]:
    m, s = (torch.tensor(each).view(1, 3, 1, 1) for each in (mean, std))
    return lambda images: (images - m) / s
