"""Selectivity along other axes: codes whose best directions are known, and what must not change."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F

from selbench._kit.errors import SelbenchError
from selbench._kit.randomness import seeded
from selbench.analyses.axes import best_axes, random_rotation, rectified, rotated_selectivity
from selbench.selectivity import class_means, selectivity_index

CLASSES, UNITS, SAMPLES = 5, 12, 400


def labels_of(samples=SAMPLES, classes=CLASSES):
    return torch.arange(samples) % classes


def one_hot_code(noise=0.0):
    """Return units of which each of the first few responds to one class alone; the rest is dead."""
    labels = labels_of()
    code = F.one_hot(labels, UNITS).float()
    return code * (1 + noise * torch.rand(SAMPLES, 1, generator=seeded("code", 0))), labels


def hidden_code(spread=0.05):
    """Return a one-hot code turned to directions that no unit has, on a common offset."""
    code, labels = one_hot_code()
    turned = code @ random_rotation(UNITS, seeded("hidden", 0)).float()
    noise = spread * torch.randn(SAMPLES, UNITS, generator=seeded("hidden", 1))
    return (turned + noise + 2).clamp(min=0), labels


def unrelated(samples=SAMPLES):
    """Return units that know nothing of the classes."""
    return torch.rand(samples, UNITS, generator=seeded("unrelated", 0)), labels_of(samples)


@cache
def found_in(make):
    """Return the best axes of a code, looked for once for all tests."""
    return best_axes(*make(), CLASSES)


def half_index(units, labels, half):
    """Return the index of each unit (columns) for each class, on one half of each class."""
    ranks = torch.stack([(labels[:i] == labels[i]).sum() for i in range(len(labels))])
    units, labels = units[ranks % 2 == half].double(), labels[ranks % 2 == half]
    rows = []
    for label in labels.unique():
        means = torch.stack([units[labels == other].mean(0) for other in labels.unique()])
        own = means[labels.unique() == label][0]
        rest = (means.sum(0) - own) / (len(means) - 1)
        rows.append((own - rest) / (own + rest + 1e-7))
    return torch.stack(rows)


def test_rotations_are_orthogonal_and_each_is_another():
    generator = seeded("rotation", 0)
    first, second = random_rotation(7, generator), random_rotation(7, generator)
    identity = torch.eye(7, dtype=torch.float64)
    torch.testing.assert_close(first @ first.T, identity)
    assert (first - second).abs().max() > 0.1


def test_rotations_favour_no_sign():
    # Without the sign fix, QR gives the first column's first entry the sign of LAPACK's choice.
    generator = seeded("rotation", 1)
    drawn = torch.stack([random_rotation(3, generator) for _ in range(600)])
    assert drawn.mean(0).abs().max() < 4 / (3 * 600) ** 0.5


def test_rectifying_flips_columns_before_it_cuts():
    responses = torch.tensor([[1.0, -3.0], [-2.0, 1.0], [4.0, -1.0]]).double()
    assert rectified(responses).tolist() == [[1, 3], [0, 0], [4, 1]]


def test_rotating_a_one_hot_code_lowers_its_index():
    units, labels = one_hot_code()
    units = units[:, :CLASSES]
    own = selectivity_index(*class_means(units, labels, CLASSES)).mean()
    rotated = rotated_selectivity(units, labels, CLASSES, 30, seeded("lower", 0))
    assert own.item() == pytest.approx(1)
    assert rotated.max() < 0.95


def test_a_rotation_is_the_index_of_the_rotated_and_rectified_units():
    units, labels = hidden_code()
    rotation = random_rotation(UNITS, seeded("same", 0))
    responses = units.double() @ rotation
    responses = responses * responses.mean(0).sign()
    means = [responses.clamp(min=0)[labels == label].mean(0) for label in range(CLASSES)]
    index = selectivity_index(torch.stack(means), torch.ones(CLASSES, dtype=torch.bool))
    rotated = rotated_selectivity(units, labels, CLASSES, 3, seeded("same", 0))
    assert rotated.shape == (3,)
    assert rotated[0].item() == pytest.approx(index.mean().item())


def test_rotations_depend_on_the_generator_alone():
    units, labels = hidden_code()
    first, second, other = (
        rotated_selectivity(units, labels, CLASSES, 4, seeded(name, 0)) for name in "aab"
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_dead_units_take_part_in_rotations():
    units, labels = one_hot_code()
    alive = rotated_selectivity(units[:, :CLASSES], labels, CLASSES, 5, seeded("dead", 0))
    all_of_them = rotated_selectivity(units, labels, CLASSES, 5, seeded("dead", 0))
    assert not torch.allclose(alive, all_of_them)
    assert (all_of_them > 0.1).all()


def test_a_layer_that_never_responds_has_index_zero():
    units, labels = torch.zeros(SAMPLES, UNITS), labels_of()
    assert rotated_selectivity(units, labels, CLASSES, 2, seeded("none", 0)).tolist() == [0, 0]
    best = best_axes(units, labels, CLASSES)
    assert best.in_sample.tolist() == best.held_out.tolist() == [0] * CLASSES


def test_units_that_respond_to_one_class_alone_are_best_and_perfect():
    units, labels = one_hot_code(noise=0.5)
    best = best_axes(units, labels, CLASSES)
    torch.testing.assert_close(best.in_sample, torch.ones(CLASSES).double())
    torch.testing.assert_close(best.held_out, torch.ones(CLASSES).double())


def test_directions_find_a_code_that_no_unit_shows():
    units, labels = hidden_code()
    assert selectivity_index(*class_means(units, labels, CLASSES)).max() < 0.3
    best = found_in(hidden_code)
    assert best.in_sample.min() > 0.99
    assert best.held_out.min() > 0.97


def test_units_that_know_no_class_are_selective_in_sample_only():
    few, many = found_in(unrelated), best_axes(*unrelated(4000), CLASSES)
    assert few.in_sample.min() > 0.2
    assert few.in_sample.mean() > 1.5 * many.in_sample.mean()
    assert abs(many.held_out.mean().item()) < 0.1


@pytest.mark.parametrize("make", [one_hot_code, hidden_code, unrelated])
@pytest.mark.parametrize("responding", [0, 0.25, 1])
@pytest.mark.sample
def test_a_direction_is_never_worse_than_the_best_unit(make, responding):
    units, labels = make()
    best = best_axes(units, labels, CLASSES, responding=responding)
    of_units = half_index(units, labels, 0).amax(1)
    assert (best.in_sample >= of_units - 1e-6).all()


def test_the_best_unit_is_a_start_where_means_mislead(monkeypatch):
    # A unit for each class is perfect but rarely responds; a loud one is a little for class 0.
    monkeypatch.setattr("selbench.analyses.axes.STEPS", 0)
    units, labels = one_hot_code()
    rare = units[:, :CLASSES] * (torch.arange(SAMPLES) // CLASSES % 8 < 2)[:, None]
    loud = 3 * torch.rand(SAMPLES, 1, generator=seeded("loud", 0)) + (labels == 0)[:, None]
    assert best_axes(torch.cat([loud, rare], 1), labels, CLASSES).held_out.min() > 0.999


def test_the_difference_of_means_is_a_start_that_what_classes_share_does_not_silence(monkeypatch):
    monkeypatch.setattr("selbench.analyses.axes.STEPS", 0)
    assert best_axes(*hidden_code(), CLASSES).held_out.min() > 0.9


@pytest.mark.parametrize("make", [hidden_code, unrelated])
def test_directions_have_the_index_that_is_reported(make):
    units, labels = make()
    best = found_in(make)
    responses = (units.double() @ best.directions.T).relu()
    torch.testing.assert_close(best.directions.norm(dim=1), torch.ones(CLASSES).double())
    for half, reported in ((0, best.in_sample), (1, best.held_out)):
        own = half_index(responses, labels, half).diagonal()
        torch.testing.assert_close(reported, own, atol=1e-5, rtol=0)


def least_share(units, labels, responding):
    """Return the least share of a class, on the first half, that its direction responds to."""
    best = best_axes(units, labels, CLASSES, responding=responding)
    responses = (units.double() @ best.directions.T).relu()
    first = torch.arange(SAMPLES) // CLASSES % 2 == 0
    own = [responses[first & (labels == label), label] for label in range(CLASSES)]
    return min((responses > 0).double().mean().item() for responses in own)


@pytest.mark.parametrize("power", [1, 100])  # 100: means are those of a few outliers
def test_a_direction_responds_to_the_share_of_its_class_that_is_asked_for(power):
    units, labels = unrelated()
    assert least_share(units**power, labels, 0) < 0.1
    assert least_share(units**power, labels, 0.25) >= 0.25


def test_a_direction_may_respond_as_rarely_as_the_best_unit():
    units, labels = one_hot_code()
    rare = units * (torch.arange(SAMPLES) // CLASSES % 8 < 2)[:, None]  # one in four
    best = best_axes(rare, labels, CLASSES, responding=0.9)
    torch.testing.assert_close(best.in_sample, torch.ones(CLASSES).double())


def test_the_directions_do_not_see_the_other_half():
    units, labels = hidden_code(spread=0.5)
    ranks = torch.arange(SAMPLES) // CLASSES
    changed = torch.where((ranks % 2 == 1)[:, None], units.flip(1), units)
    before, after = best_axes(units, labels, CLASSES), best_axes(changed, labels, CLASSES)
    assert torch.equal(before.directions, after.directions)
    assert not torch.allclose(before.held_out, after.held_out)


def test_directions_depend_neither_on_the_units_scales_nor_on_chance():
    units, labels = hidden_code(spread=0.5)
    first, second = best_axes(units, labels, CLASSES), best_axes(units, labels, CLASSES)
    assert torch.equal(first.directions, second.directions)
    scales = 10 ** torch.linspace(-3, 3, UNITS)
    scaled = best_axes(units * scales, labels, CLASSES)
    torch.testing.assert_close(scaled.held_out, first.held_out, atol=1e-3, rtol=0)


def test_absent_classes_have_no_direction():
    units, labels = hidden_code()
    kept = labels != 2
    best = best_axes(units[kept], labels[kept], CLASSES + 3)
    assert best.directions.shape == (CLASSES - 1, UNITS)
    assert best.held_out.min() > 0.97


def test_units_may_come_from_inference_mode():
    with torch.inference_mode():
        units, labels = hidden_code()
    assert best_axes(units, labels, CLASSES).held_out.min() > 0.97


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([0, 0, 0, 0], "need at least 2 images of each of 2 classes; use more"),
        ([0, 0, 1, 0], "need at least 2 images of each of 2 classes; use more"),
    ],
)
def test_what_has_no_best_direction_is_refused(labels, problem):
    with pytest.raises(SelbenchError, match=problem):
        best_axes(torch.rand(4, 3), torch.tensor(labels), 2)


def test_a_class_with_one_example_is_left_out():
    units, labels = torch.rand(9, 3), torch.tensor([0, 0, 1, 1, 0, 1, 0, 1, 2])
    found, without = best_axes(units, labels, 3), best_axes(units[:8], labels[:8], 3)
    assert torch.equal(found.held_out, without.held_out)
    assert len(found.in_sample) == 2
