"""Adversarials that a file can hold: closed forms, and that none is lost by saving it."""

import math

import numpy as np
import pytest
import torch
from networks import SIDE, Linear, grey, pictures
from PIL import Image

from selbench._kit.types import to_images
from selbench.attacks.gradient import fgsm, logits_of, pgd_grid
from selbench.attacks.nearest import minimum_norm
from selbench.attacks.norms import NORMS, inside
from selbench.attacks.pixels import Rounding, candidates, in_files, rounded, searchable
from selbench.datasets import Split
from selbench.store import Cell
from selbench.store.adversarials import write_adversarials
from selbench.suites import SUITES, Setting
from selbench.suites.attacking import run_attack

WHITE = 255
SETTING = Setting(SIDE, SIDE)


def attack_of(norm, levels):
    def attack(network, images, labels, examples):
        epsilons = [level / WHITE for level in levels]
        options = {"steps": 10, "relative_step": 0.25, "restarts": 0, "key": "test"}
        return pgd_grid(
            network, images, labels, epsilons, NORMS[norm], examples=examples, **options
        )

    return attack


def found_in_files(norm, levels, network, images, labels):
    searched = searchable(levels, norm)
    attack = in_files(attack_of(norm, searched), searched, levels, NORMS[norm])
    return attack(network, images, labels, torch.arange(len(images)))


def test_rounded_images_are_to_the_bit_what_a_file_gives_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    images = to_images(pixels)
    assert torch.equal(rounded(images), images)
    assert torch.equal(rounded(images + 0.4 / WHITE), images)
    assert rounded(4 * images - 1).aminmax() == (0, 1)


def test_slopes_are_those_at_the_rounded_image():
    points = (grey(1) + 0.4 / WHITE).requires_grad_()
    (slope,) = torch.autograd.grad((Rounding(Square())(points)).sum(), points)
    torch.testing.assert_close(slope, 2 * rounded(points.detach()))


class Square(torch.nn.Module):
    def forward(self, images):
        return images.square().flatten(1)


def test_budgets_below_one_255th_hold_the_clean_image_alone():
    assert searchable((0.25, 0.5, 1.0, 1.5, 2.0), "linf") == (1.0, 2.0)
    assert searchable((0.5, 8.5), "l2") == (8.5,)


def test_a_linear_network_falls_at_the_smallest_whole_epsilon_that_can_fell_it():
    network = Linear(classes=2, scale=0.1)
    images = rounded(grey(20))
    logits = network(images)
    labels, slope = logits.argmax(1), (network.weight[0] - network.weight[1]).abs().sum()
    least = (logits[:, 0] - logits[:, 1]).abs() / slope * WHITE  # in 255ths, any numbers
    levels = (0.5, *(float(n) for n in range(1, 10)), 9.5)
    found = found_in_files("linf", levels, network, images, labels)
    assert len(least.ceil().unique()) > 4
    for level, each in zip(levels, found, strict=True):
        assert torch.equal(each.fallen, math.floor(level) > least)


def test_in_l2_a_linear_network_falls_where_rounded_multiples_of_its_slope_fell_it():
    network = Linear(classes=2, scale=0.1)
    images = rounded(grey(4))
    logits = network(images)
    labels = logits.argmax(1)
    slope = (network.weight[0] - network.weight[1]).double()
    margins = (logits[:, 0] - logits[:, 1]).abs() * WHITE
    ways = [(slope.abs() * scale).round() for scale in torch.linspace(0.01, 60, 6000)]
    gains = torch.stack([way @ slope.abs() for way in ways])
    sizes = torch.stack([way.norm() for way in ways])
    for number, margin in enumerate(margins.tolist()):
        least = sizes[gains > margin * (1 + 1e-5)].min().item()
        one = slice(number, number + 1)
        given = network, images[one], labels[one]
        levels = (margin / slope.norm().item() * 0.999, (least**2 + 4) ** 0.5)  # ties
        below, at = found_in_files("l2", levels, *given)
        assert (below.fallen.item(), at.fallen.item()) == (False, True)


@pytest.mark.parametrize("norm", NORMS)
def test_all_that_has_fallen_is_an_image_of_a_file_inside_the_ball(norm, network):
    images, labels = pictures(30)
    images = rounded(images)
    labels[::5] = (labels[::5] + 1) % 5
    levels = (0.5, 1.0, 4.0, 12.0) if norm == "linf" else (8.0, 16.0, 64.0)
    found = found_in_files(norm, levels, network, images, labels)
    wrong = logits_of(network, images).argmax(1) != labels
    before = wrong
    for level, each in zip(levels, found, strict=True):
        assert torch.equal(rounded(each.images), each.images)
        assert (NORMS[norm].size(each.images - images) * WHITE <= level + 1e-3).all()
        torch.testing.assert_close(each.logits, logits_of(network, each.images))
        assert torch.equal(each.fallen, each.logits.argmax(1) != labels)
        assert (each.fallen | ~before).all()
        assert torch.equal(each.steps == 0, wrong)
        assert torch.equal(each.images[~each.fallen | wrong], images[~each.fallen | wrong])
        assert not each.checks
        before = each.fallen
    assert wrong.sum() < before.sum()
    if norm == "linf":
        assert torch.equal(found[0].fallen, wrong)


def test_the_nearest_errors_are_counted_by_where_they_lie_once_they_are_rounded(network):
    images, labels = pictures(12)
    images, levels = rounded(images), (8.0, 16.0, 32.0, 64.0)

    def nearest(*given):
        return minimum_norm(*given, [level / WHITE for level in levels], "ddn-l2")

    found = in_files(nearest, levels, levels, NORMS["l2"])(network, images, labels, labels)
    counts = [each.fallen.sum().item() for each in found]
    assert counts[0] < counts[-1]
    for level, each in zip(levels, found, strict=True):
        assert torch.equal(rounded(each.images), each.images)
        assert (NORMS["l2"].size(each.images - images) * WHITE <= level + 1e-3).all()


def test_each_level_of_fgsm_is_judged_by_its_own_step():
    class Band(torch.nn.Module):  # errs in a band of brightness alone
        def forward(self, images):
            mean = images.flatten(1).mean(1)
            return torch.stack([(mean - 0.51).abs(), 0.005 + 0 * mean], 1)

    images = rounded(torch.full((1, 3, 6, 6), 0.53))
    levels = (4.0, 16.0)

    def attack(network, images, labels, examples):
        return fgsm(network, images, labels, [level / WHITE for level in levels], NORMS["linf"])

    label = torch.zeros(1, dtype=torch.int64)
    found = in_files(attack, levels, levels, NORMS["linf"])(Band(), images, label, label)
    assert [each.fallen.item() for each in found] == [True, False]


def test_the_farthest_candidate_fills_the_ball():
    images = rounded(grey(2))
    way = torch.zeros_like(images)
    way[:, 0, 0] = 0.1 / WHITE  # six pixels, each of which a file would leave as it is
    nearest, farthest = candidates(images, images + way, NORMS["l2"], 5 / WHITE)
    assert torch.equal(nearest, images)
    assert ((farthest - images) * WHITE).round()[0, 0, 0].tolist() == [2.0] * 6


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.sample
def test_saved_pictures_fool_the_network_when_they_are_read_again(norm, network, tmp_path):
    images, labels = pictures(6)
    pixels = (images * WHITE).round().to(torch.uint8)
    split = Split(pixels, labels, 3 * torch.arange(6), "")
    pieces = {work.name: work for work in SUITES["attacks"](SETTING)}
    attack = pieces[f"pgd-{norm}"].in_files()
    _, tensors = run_attack(attack.attack, attack.budgets, [network], split, save=6)
    facts = dict.fromkeys(Cell.__dataclass_fields__, "") | {"condition": attack.name}
    write_adversarials(tmp_path, Cell(**facts), tensors)
    moved = 0
    for file in tmp_path.glob("adversarials/*/*/*.png"):
        level, place = float(file.parent.name), int(file.stem) // 3
        read = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
        assert network(to_images(read[None])).argmax(1) != labels[place]
        apart = (read.float() - pixels[place].float()).flatten()
        size = apart.abs().amax() if norm == "linf" else apart.norm()
        assert size <= level + 1e-3
        moved += size > 0
    assert moved > 3

    write_adversarials(tmp_path / "usual", Cell(**facts | {"condition": "x"}), tensors)
    assert not list((tmp_path / "usual").rglob("*.png"))


@pytest.mark.soak
@pytest.mark.parametrize("name", [w.name for w in SUITES["attacks-strong"](SETTING) if w.is_attack])
def test_every_attack_can_be_asked_for_images_of_files(name, network):
    work = {each.name: each for each in SUITES["attacks-strong"](SETTING)}[name]
    made = work.in_files()
    if name == "paper-pgd":
        assert made is None
        return
    images, labels = pictures(6)
    images = rounded(images)
    networks = [network] * (2 if work.transfer else 1)
    found = made.attack(*networks, images, labels, torch.arange(6))
    assert (made.name, len(found)) == (f"{name}-uint8", len(work.levels))
    for level, each in zip(made.levels, found, strict=True):
        assert torch.equal(rounded(each.images), each.images)
        assert inside(images, each.images, NORMS[made.group], level / WHITE).all()
        assert torch.equal(each.fallen, logits_of(network, each.images).argmax(1) != labels)
    assert found[0].fallen.sum() < found[-1].fallen.sum() or "noise" in name
