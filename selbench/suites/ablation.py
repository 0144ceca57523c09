"""The suite of ablation: accuracy while units are removed, the most selective first.

Cumulative ablation and the two ways to remove a unit are those of Morcos et al., 2018,
arXiv:1803.06959. selbench adds: one order over all layers, a control that removes as many random
units of the same layers, and accuracy under corruptions and attacks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from corruptions.draws import KeyedDraws
from selbench._kit.randomness import seeded
from selbench._kit.types import Images, Pixels, to_images
from selbench.analyses.ablation import (
    Ablated,
    Removal,
    Values,
    by_selectivity,
    correct,
    mean_activity,
    removal,
    shuffled_within,
)
from selbench.analyses.selectivity import class_selectivity
from selbench.attacks.folding import folded
from selbench.attacks.gradient import pgd
from selbench.attacks.norms import NORMS
from selbench.datasets import Split, limited
from selbench.metrics import METRICS, Metric, Panel, RowFilter, Unit
from selbench.networks.network import Network
from selbench.store import Measurement
from selbench.store.findings import spoiling
from selbench.suites.bench import Bench
from selbench.suites.clean import clean
from selbench.suites.corrupted import benchmark_at
from selbench.suites.layered import looked_at
from selbench.suites.pieces import Condition, data_of
from selbench.suites.work import SUITES, Passes, Put, Setting, Task, Work

# Accuracy falls to chance within the first fifth, where all layers are ablated.
SHARES = (
    *(0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12),
    *(0.14, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0),
)
ATTACKED_SHARES = (0.0, 0.02, 0.05, 0.1)
CONTROLS = 3  # random orders
SEVERITY = 3
EPSILON, STEPS, RELATIVE_STEP = 0.5 / 255, 10, 0.25  # intact networks keep some accuracy
ATTACKED = 500  # images at most
GROUP = 250  # images under attack at once
TABLE = "ablation"
POINTS = Unit("points", 100, 1)


@SUITES
def ablation(setting: Setting) -> list[Work]:
    """Accuracy with units removed, the most selective first: clean, corrupted and attacked."""
    layers, source = setting.mechanism.layers, looked_at("original", setting)
    corrupted = benchmark_at(SEVERITY, setting)
    made = " and ".join(dict.fromkeys(each.source for each in corrupted))
    if setting.corruptions:
        made += f" {' '.join(each.name for each in corrupted)}"
    work = partial(Ablation, "ablation", layers=layers)
    return [
        *clean(setting),
        work("zero", SHARES, source=source),
        work("mean", SHARES, to_mean=True, source=source),
        work(
            "corrupted",
            SHARES,
            conditions=corrupted,
            source=looked_at(made, setting),
            version=sum(each.version for each in corrupted),
        ),
        work(
            "attacked",
            ATTACKED_SHARES,
            attacked=True,
            group="linf",
            source=looked_at("attack", setting),
        ),
    ]


@dataclass(frozen=True)
class Ablation(Work):
    """Accuracy with units removed, one cell for each share: in order of selectivity, and at random.

    Attributes:
        shares_removed: shares of the living units, rising; its levels.
        to_mean: whether removed units are clamped to their mean over the clean images, not to 0.
        layers: a regular expression of the names of the modules that are layers, or None.
        conditions: each image gets one of these corruptions; none for clean images.
        attacked: whether each ablated network is attacked.
    """

    shares_removed: tuple[float, ...]
    to_mean: bool = field(default=False, kw_only=True)
    layers: str | None = field(default=None, kw_only=True)
    conditions: tuple[Condition, ...] = field(default=(), kw_only=True)
    attacked: bool = field(default=False, kw_only=True)

    shares: ClassVar[bool] = False

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The shares removed."""
        return self.shares_removed

    @property
    def data(self) -> str:
        """One checksum of all images on disk."""
        return data_of(self.conditions)

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and the names of the corruptions."""
        return (self.name, *(condition.name for condition in self.conditions))

    @property
    def makes(self) -> Sequence[Condition]:
        """The conditions whose images are not on disk."""
        return [made for condition in self.conditions for made in condition.makes]

    def images(self, split: Split, limit: int | None) -> int:
        """Return the number of images that it uses."""
        return min(ATTACKED, len(split)) if self.attacked else len(split)

    def passes(self, model: nn.Module, split: Split, classes: int, limit: int | None) -> Passes:
        """Count a pass for the index, one for the means, and those of every ablated network."""
        before = Passes(len(split) * (2 if self.to_mean else 1))
        networks = sum(1 if each in (0, 1) else 1 + CONTROLS for each in self.shares_removed)
        each = Passes(2, STEPS) if self.attacked else Passes(1)
        return before + each * (networks * self.images(split, limit))

    def partners(self, networks: Sequence[Network]) -> Iterator[tuple[Network, Network | None]]:
        """Leave out networks whose accuracy under attack would be meaningless."""
        serve = networks
        if self.attacked:
            serve = [each for each in networks if spoiling(each.findings, self.name) is None]
        return super().partners(serve)

    def sent(self, put: Put, limit: int | None, seeds: Iterable[int]) -> "Ablation":
        """Send the conditions' images on disk along."""
        sent = tuple(condition.sent(put, limit, seeds) for condition in self.conditions)
        return replace(self, conditions=sent)

    def run(self, tasks: Sequence[Task], bench: Bench) -> None:
        """Ablate one network after the other, or side by side."""
        images = in_turn(self.conditions, bench.split, bench.limit)

        def measure(network: nn.Module) -> list[list[Measurement]]:
            return self.measure(network, bench.split, images)

        bench.each(partial(bench.measured, measure), tasks)

    def measure(self, model: nn.Module, split: Split, images: Pixels) -> list[list[Measurement]]:
        """Return the measurements of a network at every share.

        Args:
            model: the network.
            split: the clean images, for the index and the means.
            images: the images to classify.
        """
        found = class_selectivity(model, split.images, split.labels, layers=self.layers, shuffles=0)
        widths = [len(each.index) for each in found]
        ranked = by_selectivity(found)
        values = mean_activity(model, split.images, self.layers) if self.to_mean else None
        controls = [shuffled_within(ranked, seeded("ablation", n)) for n in range(CONTROLS)]
        removals = [
            [removal(order, share, widths) for order in (ranked, *controls)]
            for share in self.shares_removed
        ]
        test_split = replace(split, images=images)
        shown = limited(test_split, ATTACKED) if self.attacked else test_split
        right = _each_removal_once(partial(self._right, model, shown, values), removals)
        return [
            _measured(accuracies, each[0], len(shown))
            for accuracies, each in zip(right, removals, strict=True)
        ]

    def _right(
        self, model: nn.Module, split: Split, values: Values | None, removals: Sequence[Removal]
    ) -> list[float]:
        """Return the accuracy of each ablated network."""
        if not self.attacked:
            networks = [Ablated(model, each, values, self.layers) for each in removals]
            hits = correct(networks, split.images, split.labels)
            return (hits.double() / len(split)).tolist()
        images = to_images(split.images)
        network = folded(model, images[:2]) if self.layers is None else model
        return [
            _under_attack(Ablated(network, each, values, self.layers), images, split)
            for each in removals
        ]


def in_turn(conditions: Sequence[Condition], split: Split, limit: int | None) -> Pixels:
    """Return the images, each under one of the conditions; unchanged if there are none.

    The position of an image in its data set decides its condition.
    """
    if not conditions:
        return split.images
    drawn = KeyedDraws("ablation/corruptions", split.examples.cpu()).uniform(0, 1, 1).flatten()
    chosen = (drawn * len(conditions)).long().to(split.labels.device)
    images = split.images.clone()
    for number, condition in enumerate(conditions):
        (places,) = (chosen == number).nonzero(as_tuple=True)
        if condition.stored is not None:
            images[places] = condition.made_of(split, limit)[places]
        elif len(places):
            images[places] = condition.made_of(split.take(places), limit)
    return images


def _each_removal_once(
    accuracies_of: Callable[[Sequence[Removal]], list[float]],
    removals: Sequence[Sequence[Removal]],
) -> list[list[float]]:
    """Return the accuracy after each removal; compute equal removals once."""
    named = {_name(each): each for several in removals for each in several}
    found = dict(zip(named, accuracies_of(list(named.values())), strict=True))
    return [[found[_name(each)] for each in several] for several in removals]


def _name(removed: Removal) -> bytes:
    return torch.cat(list(removed)).numpy().tobytes()


def _under_attack(network: nn.Module, images: Images, split: Split) -> float:
    """Return the accuracy of an ablated network under an attack on the ablated network."""
    standing = 0
    for part, labels in zip(images.split(GROUP), split.labels.split(GROUP), strict=True):
        found = pgd(
            network,
            part,
            labels,
            EPSILON,
            NORMS["linf"],
            step=RELATIVE_STEP * EPSILON,
            steps=STEPS,
        )
        standing += int((~found.fallen).sum())
    return standing / len(images)


def _measured(accuracies: Sequence[float], removed: Removal, n: int) -> list[Measurement]:
    """Return the measurements at one share, in order of selectivity and at random."""
    accuracy, *controls = accuracies
    control = sum(controls) / len(controls)
    values = {
        "ablated_accuracy": accuracy,
        "control_accuracy": control,
        "ablation_gap": control - accuracy,
        "units_removed": float(sum(int(each.sum()) for each in removed)),
    }
    return [Measurement(metric, value, n) for metric, value in values.items()]


_AXIS = "share of units removed, %"
_KINDS = {  # title of the panel, what is measured, and how units are removed
    "zero": ("clean, set to 0", "accuracy", "units are set to 0"),
    "mean": ("clean, set to their mean", "accuracy", "units are set to their mean"),
    "corrupted": (
        f"corrupted, severity {SEVERITY}",
        f"accuracy under corruptions of severity {SEVERITY}",
        "units are set to 0",
    ),
    "attacked": (
        f"PGD, L-inf {255 * EPSILON:g}/255",
        "accuracy under PGD on the ablated network",
        "units are set to 0",
    ),
}
for _name_of, (_title, _what, _how) in _KINDS.items():
    for _metric, _suffix, _label, _which in (
        ("ablated_accuracy", "", "ablated", "the most selective first"),
        ("control_accuracy", "_control", "control", "at random, as many in each layer"),
    ):
        METRICS(
            Metric(
                f"ablated_{_name_of}{_suffix}",
                f"{_label} {_name_of}",
                f"{_what} while {_how}, {_which}, averaged over the shares removed",
                "ablation",
                RowFilter(("ablation",), _metric, (_name_of,)),
                source="arXiv:1803.06959" if _name_of in ("zero", "mean") else "ours",
                table=TABLE,
                rare=True,
                asked=_name_of != "zero",
                panel=None if _suffix else Panel("ablation", _title, _AXIS),
            )
        )
    METRICS(
        Metric(
            f"ablation_gap_{_name_of}",
            f"gap {_name_of}",
            f"{_what} of the control minus that without the most selective units: above 0 where "
            "these units matter more than others",
            "ablation",
            RowFilter(("ablation",), "ablation_gap", (_name_of,)),
            unit=POINTS,
            better=0,
            bounds=(-1, 1),
            table=TABLE,
            rare=True,
        )
    )
