"""Suites of adversarial attacks."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from selbench._kit.randomness import seeded
from selbench._kit.types import Examples, Images, Labels, to_images
from selbench.attacks.folding import folded
from selbench.attacks.gradient import NEVER, Attacked, fgsm, logits_of, pgd_curve, pgd_grid
from selbench.attacks.losses import Loss, cross_entropy
from selbench.attacks.masking import differentiable, examine
from selbench.attacks.norms import NORMS
from selbench.datasets import Split
from selbench.metrics import METRICS, Metric, Panel, RowFilter, Unit
from selbench.store import Measurement
from selbench.store.adversarials import IN_FILES
from selbench.store.findings import AVERAGED
from selbench.suites.clean import clean
from selbench.suites.index import class_index
from selbench.suites.pieces import Analysis, Attack
from selbench.suites.work import SUITES, Passes, Setting, Work

Levels = tuple[float, ...]  # epsilons in 255ths, rising
Run = Callable[[nn.Module, Images, Labels, Examples], list[Attacked]]

LINF_EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # in 255ths, as all here
# A change of levels needs a new version: each level starts from the adversarials of the one below.
L2_EPSILONS = (8.0, 16.0, 32.0, 64.0, 128.0)  # to the usual 0.5; 14 is L-inf's 0.25 at 32 pixels
STEPS, RESTARTS = 40, 1
PAPER_EPSILON, PAPER_STEP = 16.0, 1e-4
EXAMINED = 500  # images that the checks for masked gradients attack


@SUITES
def attacks(setting: Setting) -> list[Work]:
    """The papers' FGSM and PGD, a tuned PGD, and checks for masked gradients."""
    pgds = [_pgd("linf", LINF_EPSILONS), _pgd("l2", L2_EPSILONS)]
    # If PGD fools half of the images: 40 steps from two points at two epsilons, 80 steps from
    # three at one, and 40 at a huge one. Half of the images leave early.
    each = Passes(20, (2 * 2 * STEPS + 3 * 80 + STEPS) / 2)
    masking = Analysis("attacks", "masking", _masking, each, EXAMINED, source="attack", version=2)
    return [*class_index(setting), *clean(setting), _fgsm(), _paper_pgd(), *pgds, masking]


def _white_box(attack: Run, levels: int) -> Run:
    """Return the images unattacked where a network has no gradients."""

    def run(n: nn.Module, images: Images, labels: Labels, examples: Examples) -> list[Attacked]:
        if differentiable(n, images[:1], labels[:1]):
            return attack(n, images, labels, examples)
        logits = logits_of(n, images)
        wrong = logits.argmax(1) != labels
        return [Attacked(images, logits, wrong, torch.where(wrong, 0, NEVER))] * levels

    return run


def _fgsm() -> Attack:
    def at(levels: Levels) -> Run:
        def run(n: nn.Module, images: Images, labels: Labels, examples: Examples) -> list[Attacked]:
            return fgsm(n, images, labels, _fractions(levels), NORMS["linf"])

        return _white_box(run, len(levels))

    passes = Passes(len(LINF_EPSILONS), 1)
    return _attack("fgsm-linf", LINF_EPSILONS, at(LINF_EPSILONS), "linf", passes, at)


def _paper_pgd() -> Attack:
    """Leavitt & Morcos, 2020, arXiv:2010.07693, from memory; step x steps stays below epsilon."""

    def run(n: nn.Module, images: Images, labels: Labels, examples: Examples) -> list[Attacked]:
        epsilon = PAPER_EPSILON / 255
        norm, steps = NORMS["linf"], STEPS
        return pgd_curve(n, images, labels, epsilon, norm, step=PAPER_STEP, steps=steps)

    levels = tuple(float(step) for step in range(1, STEPS + 1))
    return _attack("paper-pgd", levels, _white_box(run, STEPS), "linf", Passes(1, STEPS))


def _pgd(norm: str, levels: Levels) -> Attack:
    at = partial(pgd_at, norm=norm)
    return _attack(f"pgd-{norm}", levels, at(levels), norm, pgd_passes(levels), at)


def pgd_passes(levels: Levels) -> Passes:
    """Count one run from the image, and the restarts, at every level."""
    runs = len(levels) * (1 + RESTARTS)
    return Passes(runs + 1, runs * STEPS)


def pgd_at(levels: Levels, norm: str, again: Loss = cross_entropy) -> Run:
    """Return the tuned PGD at epsilons in 255ths; its restarts maximise the loss `again`."""

    def run(n: nn.Module, images: Images, labels: Labels, examples: Examples) -> list[Attacked]:
        return pgd_grid(
            n,
            images,
            labels,
            _fractions(levels),
            NORMS[norm],
            steps=STEPS,
            relative_step=0.25,
            restarts=RESTARTS,
            examples=examples,
            key=f"pgd-{norm}",
            again=again,
        )

    return _white_box(run, len(levels))


def _attack(
    name: str,
    levels: Levels,
    run: Run,
    norm: str,
    passes: Passes,
    at: Callable[[Levels], Run] | None = None,
) -> Attack:
    # One more pass back checks that the network can be differentiated.
    passes = replace(passes, backward=passes.backward + 1)
    return Attack("attacks", name, levels, run, group=norm, each=passes, at=at)


def _masking(model: nn.Module, split: Split, classes: int) -> list[Measurement]:
    if len(split) > EXAMINED:
        order = torch.randperm(len(split), generator=seeded("masking", 0))
        split = split.take(order[:EXAMINED].sort().values.to(split.labels.device))
    images = to_images(split.images)
    model = folded(model, images[:2])
    checks = examine(model, images, split.labels, split.examples, _fractions(LINF_EPSILONS))
    return [Measurement(f"masking_{name}", v, len(split)) for name, v in checks.items()]


def _fractions(levels: Levels) -> tuple[float, ...]:
    return tuple(level / 255 for level in levels)


def variants(metric: Metric) -> None:
    """Register an attack's metrics for adversarials of 8-bit pixels, and for random networks."""
    for short, suffix, words, table in (
        (
            "uint8",
            IN_FILES,
            "among images that a file of 8-bit pixels can hold",
            "adversarials of 8-bit pixels",
        ),
        ("EoT", AVERAGED, "of the mean prediction over draws", "attacks on random networks"),
    ):
        conditions = tuple(f"{name}{suffix}" for name in metric.reads.conditions)
        METRICS(
            replace(
                metric,
                name=f"{metric.name}_{short.lower()}",
                label=f"{metric.label} {short}",
                meaning=f"{metric.meaning}, {words}",
                reads=replace(metric.reads, conditions=conditions),
                table=table,
                panel=None,
                rare=True,
            )
        )


EPSILON = "epsilon, in 255ths"
TABLE = "attacks"
FGSM = METRICS(
    Metric(
        "fgsm",
        "FGSM",
        "accuracy under FGSM (one step, L-inf), averaged over budgets",
        "attacks",
        RowFilter(("attacks",), conditions=("fgsm-linf",)),
        source="arXiv:1412.6572",
        table=TABLE,
        panel=Panel("attacks", "FGSM, L-inf", EPSILON),
    )
)
variants(FGSM)
METRICS(
    Metric(
        "paper_pgd",
        "paper PGD",
        "accuracy under the papers' PGD after its last step",
        "attacks",
        RowFilter(("attacks",), conditions=("paper-pgd",)),
        "last",
        source="arXiv:2010.07693",
        table=TABLE,
        place=1,
        panel=Panel("attacks", "the papers' PGD", f"steps of {PAPER_STEP:.4f}"),
    )
)
for _norm, _short, _words in (("linf", "Linf", "L-inf"), ("l2", "L2", "L2")):
    _pgd_of = METRICS(
        Metric(
            f"pgd_{_norm}",
            f"PGD {_short}",
            f"accuracy under PGD ({STEPS} steps, {_words}), averaged over budgets",
            "attacks",
            RowFilter(("attacks",), conditions=(f"pgd-{_norm}",)),
            source="arXiv:1706.06083",
            table=TABLE,
            panel=Panel("attacks", f"PGD, {_words}", EPSILON),
        )
    )
    variants(_pgd_of)
    METRICS(
        Metric(
            f"median_{_norm}",
            f"median {_short}",
            f"the budget ({_words}, 255ths) at which PGD fools half of the images",
            "attacks",
            RowFilter(("attacks",), conditions=(f"pgd-{_norm}",)),
            "half",
            unit=Unit(decimals=2),
            bounds=(0, max(LINF_EPSILONS + L2_EPSILONS)),
            table="smallest perturbations",
        )
    )
