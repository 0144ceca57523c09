"""AutoAttack's order: which epsilons are attacked, exact verdicts, and what is kept of them."""

import pytest
import torch
from networks import Fragile, Linear, Quantised, grey, pictures
from quick_attacks import each_norm, gradient_free

from selbench.attacks.autoattack import autoattack
from selbench.attacks.folding import Searched
from selbench.attacks.gradient import Attacked, logits_of
from selbench.attacks.ladder import (
    APGD,
    FMN,
    IMPLIED,
    NOT_FINITE,
    SQUARE,
    WITHSTOOD,
    WRONG,
    decisions,
)
from selbench.attacks.norms import NORMS
from selbench.datasets import Split
from selbench.store import Cell
from selbench.store.outcomes import summary, to_table
from selbench.suites.bench import run_attack

EXAMPLES = torch.arange(12)
QUICK = {"iterations": 10, "queries": 10}


@each_norm
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.sample("full")
def test_verdicts_on_a_linear_network_are_exact(norm, full):
    network, images = Linear(classes=2), grey(12)
    logits, difference = network(images), network.weight[0] - network.weight[1]
    length = difference.abs().sum() if norm == "linf" else difference.norm()
    exact = (logits[:, 0] - logits[:, 1]).abs() / length
    labels = logits.argmax(1)
    labels[0] = 1 - labels[0]
    ways = exact[1:].sort().values
    epsilons = [(ways[place] + ways[place + 1]).item() / 2 for place in (1, 4, 8)]
    found = autoattack(network, images, labels, EXAMPLES, epsilons, NORMS[norm], full=full, **QUICK)
    for epsilon, each in zip(epsilons, found, strict=True):
        assert torch.equal(each.fallen, (exact <= epsilon) | (labels != logits.argmax(1)))
        assert each.by[0] == WRONG
        assert torch.equal(each.by >= 0, each.fallen & (each.by != WRONG))
    largest = torch.stack([~each.fallen for each in found]).sum(0) - 1
    for level, each in enumerate(found):
        implied = ~each.fallen & (level < largest)
        assert torch.equal(each.by == IMPLIED, implied & (not full))
        assert (each.by[~each.fallen & ~(each.by == IMPLIED)] == WITHSTOOD).all()
    assert (found[-1].by == FMN).sum() >= 6  # which leaves nothing to do there


@each_norm
@pytest.mark.soak
def test_attacks_meet_only_what_is_in_doubt(norm, network, monkeypatch):
    images, labels = pictures(12)
    epsilons, asked, options = [0.01, 0.02, 0.4, 8.0], [], {**QUICK, "iterations": 25}
    from selbench.attacks import autoattack as module

    real = module.apgd

    def watched(guarded, images, labels, epsilons, norm, **options):
        asked.append((options["loss"], epsilons.tolist()))
        return real(guarded, images, labels, epsilons, norm, **options)

    monkeypatch.setattr(module, "apgd", watched)
    found = autoattack(network, images, labels, EXAMPLES, epsilons, NORMS[norm], **options)
    assert found[-1].fallen.all()
    assert asked[0][0] == "ce"
    assert sum(size > 1 for size in asked[0][1]) <= 2  # which FMN mostly finds in so few steps
    assert len(set(asked[0][1])) > 1  # images of several epsilons at once
    in_full = autoattack(
        network, images, labels, EXAMPLES, epsilons, NORMS[norm], full=True, **options
    )
    for some, each in zip(found, in_full, strict=True):
        assert torch.equal(some.fallen, each.fallen)


@pytest.mark.soak
def test_what_masks_its_gradients_falls_to_square_at_its_smallest_epsilon(network):
    images, labels = pictures(12)
    epsilons = [24 / 255, 0.3, 0.9]
    found = autoattack(
        Quantised(network), images, labels, EXAMPLES, epsilons, NORMS["linf"], iterations=5,
        queries=150,
    )  # fmt: skip
    assert (found[0].by == SQUARE).any()
    assert gradient_free(found[:1]) > 0.1
    assert torch.equal(found[2].by[found[0].by == SQUARE], found[0].by[found[0].by == SQUARE])


def test_examples_whose_outputs_are_not_finite_are_not_attacked():
    images = grey(3)
    images[1] = 0.7
    labels = torch.zeros(3, dtype=torch.int64)
    (found,) = autoattack(Fragile(), images, labels, EXAMPLES[:3], [0.01], NORMS["linf"], **QUICK)
    assert found.by[1] == NOT_FINITE
    words = decisions(torch.tensor([APGD, WITHSTOOD, IMPLIED, WRONG, NOT_FINITE]))
    assert words == [
        "apgd-ce",
        "withstood",
        "withstood a larger epsilon",
        "wrong before the attack",
        "outputs not finite",
    ]


def test_a_success_counts_on_the_network_as_it_was_given():
    network, images = Linear(), grey(12)
    labels = network(images).argmax(1)

    class Deaf(Linear):
        """Says of any image what the other network says of the first one."""

        def forward(self, points):
            return super().forward(images[:1]).expand(len(points), -1)

    searched = Searched(network, Deaf())
    (found,) = autoattack(searched, images, labels, EXAMPLES, [0.3], NORMS["linf"], **QUICK)
    assert torch.equal(found.fallen, labels != labels[0])
    assert (found.by[~found.fallen] == WITHSTOOD).all()


def test_outcomes_say_what_felled_each_example():
    network, images = Linear(classes=2), (grey(4) * 255).byte()
    labels = network(images / 255).argmax(1)
    split = Split(images, labels, EXAMPLES[:4], "")

    def attack(*given):
        return autoattack(*given, [1e-4, 1.0], NORMS["linf"], **QUICK)

    outcomes, _ = run_attack(attack, [1.0, 2.0], [network], split)
    cell = Cell("s", "c", 1.0, "", "attack", 1, "", None, "n", None, None, "", "", "")
    plain = {name: column for name, column in outcomes[0].items() if name != "by"}
    table = to_table([cell, cell, cell], [outcomes[0], outcomes[1], plain])
    by = table["by"].to_pylist()
    assert by == ["withstood"] * 4 + ["fmn"] * 4 + [None] * 4


def test_outcomes_say_how_often_an_image_passed_the_network():
    network, images = Linear(classes=2), (grey(4) * 255).byte()
    split = Split(images, network(images / 255).argmax(1), EXAMPLES[:4], "")

    def attack(network, images, labels, examples):
        network(images[:2])  # half of them
        points = images.clone().requires_grad_(True)
        network(points).sum().backward()
        wrong = torch.ones_like(labels, dtype=torch.bool)
        return [Attacked(images, logits_of(network, images), ~wrong, labels)] * 2

    outcomes, _ = run_attack(attack, [1.0, 2.0], [network], split)
    assert "passes_forward" not in outcomes[0]  # they are those of all levels
    assert outcomes[1]["passes_forward"].tolist() == [1.5] * 4
    assert outcomes[1]["passes_gradient"].tolist() == [1] * 4
    cell = Cell("s", "c", 2.0, "", "attack", 1, "", None, "n", None, None, "", "", "")
    measured = {each.metric: each.value for each in summary(cell, outcomes[1]).measurements}
    assert (measured["passes_forward"], measured["passes_gradient"]) == (1.5, 1)
