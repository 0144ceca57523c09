"""Units removed by hand, in every layout, and what the suite makes of that."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import selbench
from selbench._engine import evaluate
from selbench._kit.chunks import BATCH
from selbench._kit.errors import SelbenchError
from selbench._kit.randomness import seeded
from selbench._kit.types import to_images
from selbench.analyses.ablation import (
    Ablated,
    by_selectivity,
    correct,
    mean_activity,
    removal,
    shuffled_within,
)
from selbench.analyses.layers import Layer, find_layers
from selbench.analyses.selectivity import LayerSelectivity, class_selectivity
from selbench.attacks.gradient import pgd
from selbench.attacks.norms import NORMS
from selbench.datasets.dataset import Dataset, make_split
from selbench.models import build_model
from selbench.networks.network import Network
from selbench.store import StudyStore
from selbench.study import ModelSpec
from selbench.suites import SUITES, Condition, Setting, collect
from selbench.suites import ablation as suite
from selbench.suites.ablation import SHARES, Ablation, in_turn

DIM = (0.1, 0.3, 0.55)  # what a unit sees of other classes than its own: the most selective first
THIRDS = (0.0, 1 / 3, 2 / 3, 1.0)
SMALL = Setting(32, 32)


class Channels(nn.Module):
    """Three units, each of which sees one colour, and says how much of it there is."""

    def forward(self, images):
        return F.relu(images).mean((2, 3))


@pytest.fixture
def colours():
    """Return images of three classes, each bright in its own colour."""
    values = torch.tensor(DIM).repeat(6, 1)
    values[torch.arange(6), torch.arange(6) % 3] = 0.9
    pixels = (255 * values).round().to(torch.uint8)[:, :, None, None].expand(6, 3, 4, 4)
    return make_split(pixels.contiguous(), torch.arange(6) % 3)


class Hidden(nn.Module):
    """Ten hidden units between two layers, at several places, in a layout of one's choice."""

    def __init__(self, layout):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 10), nn.Linear(10, 4)
        self.layout = layout

    def forward(self, images):
        rows = self.first(4 * images.permute(0, 2, 3, 1) - 2)
        if self.layout == "in place":
            F.relu(rows, inplace=True)  # the result is thrown away
        elif self.layout == "tokens":
            rows = F.relu(rows.flatten(1, 2)).unflatten(1, rows.shape[1:3])
        elif self.layout == "windows":
            windows = F.relu(rows.flatten(0, 1))  # rows of pixels beside images
            rows = windows.unflatten(0, rows.shape[:2])
        elif self.layout == "maps":
            rows = F.relu(rows.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            rows = F.relu(rows)
        return self.last(rows).mean((1, 2))


LAYOUTS = ("in place", "tokens", "windows", "maps", "last")
GONE = torch.arange(10) % 3 == 0


@pytest.fixture
def images():
    return torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def without(layout):
    """Return the network whose last weights ignore the units of `GONE`."""
    model = Hidden(layout)
    model.last.weight.data[:, GONE] = 0
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_unit_set_to_0_is_one_that_nobody_listens_to(layout, images):
    model = Hidden(layout).eval().requires_grad_(False)
    ablated = Ablated(model, [GONE])
    with torch.inference_mode():
        torch.testing.assert_close(ablated(images), without(layout)(images))
    points = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(ablated(points)[:, 0].sum(), points)
    (expected,) = torch.autograd.grad(without(layout)(points)[:, 0].sum(), points)
    torch.testing.assert_close(slope, expected)
    assert not torch.equal(model(images), ablated(images))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_unit_set_to_its_mean_adds_the_mean_at_every_place(layout, images):
    model = Hidden(layout).eval().requires_grad_(False)
    hidden = F.relu(model.first(4 * images.permute(0, 2, 3, 1) - 2))
    hidden[..., GONE] = hidden.mean(0)[..., GONE]
    expected = model.last(hidden).mean((1, 2))
    means = mean_activity(model, images)
    assert [mean.shape for mean in means] == [layer.shape for layer in find_layers(model, images)]
    ablated = Ablated(model, [GONE], means)
    with torch.inference_mode():
        torch.testing.assert_close(ablated(images), expected)
    torch.testing.assert_close(ablated(images[:1]), expected[:1])  # with gradients too


def test_layers_that_are_named_are_ablated_and_what_goes_in_is_left_alone(images):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.same, self.last = nn.Identity(), nn.Linear(3, 2)

        def forward(self, images):
            pooled = images.mean((2, 3))
            return self.last(self.same(pooled) + 10 * pooled)

    model = Named().eval().requires_grad_(False)
    pooled = images.mean((2, 3))
    expected = model.last(pooled * torch.tensor([0.0, 1, 1]) + 10 * pooled)
    gone = torch.tensor([True, False, False])
    with torch.inference_mode():
        torch.testing.assert_close(Ablated(model, [gone], layers="same")(images), expected)


def resnet8():
    torch.manual_seed(0)
    spec = ModelSpec(name="resnet8", options={"width": 4})
    return build_model(spec, 4, ((0.5,) * 3, (0.25,) * 3)).eval().requires_grad_(False)


@pytest.mark.parametrize("number", [1, 3, 5, 7])  # the stem, and the ends of all blocks
def test_a_network_without_a_layer_is_constant(number, images):
    large = F.interpolate(images, size=(32, 32))
    model = resnet8()
    widths = [layer.units for layer in find_layers(model, large)]
    gone = [torch.full((n,), place == number) for place, n in enumerate(widths, 1)]
    logits = Ablated(model, gone)(large)
    torch.testing.assert_close(logits, logits[:1].expand(6, 4))
    assert not torch.allclose(model(large), logits)
    nothing = [torch.zeros(n, dtype=torch.bool) for n in widths]
    assert torch.equal(Ablated(model, nothing)(large), model(large))


def test_one_that_calls_other_layers_than_before_is_refused(images):
    ablated = Ablated(resnet8(), [torch.zeros(4, dtype=torch.bool)])
    with pytest.raises(SelbenchError, match=r"calls more layers than the 1 found before; ablation"):
        ablated(F.interpolate(images, size=(32, 32)))


def ranked():
    """Return an order of units of two layers, of which two are dead."""
    found = []
    for number, values in enumerate(([0.2, 0.9, 0.0, 0.5], [0.5, 0.0, 0.7, 0.6, 0.1]), 1):
        index = torch.tensor(values).double()
        layer = Layer(number, "relu", (len(index),))
        found.append(LayerSelectivity(layer, index, index == 0, index[None]))
    return by_selectivity(found)


def test_the_most_selective_go_first_and_the_dead_stay():
    order = ranked()
    assert order.tolist() == [[0, 1], [1, 2], [1, 3], [0, 3], [1, 0], [0, 0], [1, 4]]
    first, second = removal(order, 3 / 7, (4, 5))
    assert first.tolist() == [False, True, False, False]
    assert second.tolist() == [False, False, True, True, False]
    assert not any(each.any() for each in removal(order, 0, (4, 5)))
    assert [int(each.sum()) for each in removal(order, 1, (4, 5))] == [3, 4]


def test_the_control_removes_as_many_of_each_layer_at_every_share():
    order = ranked()
    drawn = shuffled_within(order, seeded("a", 0))
    assert sorted(drawn.tolist()) == sorted(order.tolist())
    for share in (1 / 7, 3 / 7, 5 / 7):
        pair = (removal(each, share, (4, 5)) for each in (order, drawn))
        own, others = ([int(layer.sum()) for layer in each] for each in pair)
        assert own == others
    assert torch.equal(drawn, shuffled_within(order, seeded("a", 0)))
    others = [shuffled_within(order, seeded("a", n)) for n in range(9)]
    assert any(not torch.equal(drawn, other) for other in others)
    assert any(other[0].tolist() != order[0].tolist() for other in others)


@pytest.mark.parametrize(("to_mean", "last"), [(False, 1 / 3), (True, 1 / 3)])
def test_a_network_of_three_units_loses_a_class_with_each(colours, to_mean, last):
    work = Ablation("ablation", "x", THIRDS, to_mean=to_mean)
    levels = work.measure(Channels(), colours, colours.images)
    accuracies = [value(rows, "ablated_accuracy") for rows in levels]
    assert accuracies == pytest.approx([1, 2 / 3, 1 / 3, last])
    assert [value(rows, "units_removed") for rows in levels] == [0, 1, 2, 3]
    for rows in levels:  # any two units that see a class are worth the same here
        gap = value(rows, "control_accuracy") - value(rows, "ablated_accuracy")
        assert value(rows, "ablation_gap") == pytest.approx(gap)
        assert {row.n for row in rows} == {6}


def value(rows, metric):
    (found,) = (row.value for row in rows if row.metric == metric)
    return found


def test_batches_of_any_size_give_the_same_numbers(colours, monkeypatch):
    work = Ablation("ablation", "mean", THIRDS, to_mean=True)
    whole = work.measure(Channels(), colours, colours.images)
    monkeypatch.setitem(BATCH, "cpu", 4)
    assert work.measure(Channels(), colours, colours.images) == whole


def test_the_ablated_network_is_the_one_that_is_attacked(images):
    split = make_split((255 * images).to(torch.uint8), torch.arange(6) % 4)
    model = Hidden("last").eval().requires_grad_(False)
    found = class_selectivity(model, split.images, split.labels)
    order = by_selectivity(found)
    (gone,) = removal(order, 0.5, (10,))
    expected = Hidden("last").eval().requires_grad_(False)
    expected.last.weight[:, gone] = 0
    points = to_images(split.images)
    steps = {"step": suite.RELATIVE_STEP * suite.EPSILON, "steps": suite.STEPS}
    left = pgd(expected, points, split.labels, suite.EPSILON, NORMS["linf"], **steps)
    work = Ablation("ablation", "attacked", (0.5,), attacked=True)
    (rows,) = work.measure(model, split, split.images)
    assert value(rows, "ablated_accuracy") == (~left.fallen).double().mean()


def test_attacks_leave_less_than_clean_images(colours, monkeypatch):
    clean, attacked = (
        Ablation("ablation", "x", (0.0,), attacked=attacked) for attacked in (False, True)
    )

    def accuracy(work):
        return value(work.measure(Channels(), colours, colours.images)[0], "ablated_accuracy")

    assert (accuracy(clean), accuracy(attacked)) == (1, 1)  # colours differ by more than 2/255
    monkeypatch.setattr(suite, "EPSILON", 0.25)  # enough against .9 and .55, but not .3
    assert accuracy(attacked) == pytest.approx(1 / 3)


def test_every_image_is_under_one_condition_whatever_others_there_are(colours):
    conditions = [
        Condition("c", str(n), lambda images, examples, n=n: torch.full_like(images, n))
        for n in range(4)
    ]
    many = make_split(colours.images.repeat(20, 1, 1, 1), colours.labels.repeat(20))
    made = in_turn(conditions, many, None)
    chosen = made[:, 0, 0, 0]
    assert set(chosen.tolist()) == {0, 1, 2, 3}
    assert (made == chosen[:, None, None, None]).all()
    part = many.take(torch.arange(0, 120, 7))
    assert torch.equal(in_turn(conditions, part, None), made[::7])
    assert in_turn((), many, None) is many.images


def test_the_suite_s_corruptions_are_those_that_are_asked_for():
    whole, fog = (
        {piece.name: piece for piece in collect(("ablation",), setting)}["corrupted"]
        for setting in (SMALL, Setting(32, 32, corruptions=("fog",)))
    )
    assert len(whole.conditions) == 15
    assert {each.level for each in whole.conditions} == {3}
    assert [each.name for each in fog.conditions] == ["fog"]
    assert fog.source == "generated fog"
    assert whole.source.startswith("generated")
    with pytest.raises(SelbenchError, match=r"^speckle_noise is not in the suite ablation; add"):
        collect(("ablation",), Setting(32, 32, corruptions=("speckle_noise",)))


def test_a_run_that_was_killed_goes_on_where_it_was(colours, tmp_path, monkeypatch):
    dataset = Dataset("colours", ("a", "b", "c"), colours, colours)
    pieces = [
        Ablation("ablation", "zero", THIRDS),
        Ablation("ablation", "mean", THIRDS, to_mean=True),
    ]
    subjects = [Network("mine", None, None, "", "channels", "w", Channels)]
    store, genuine = StudyStore(tmp_path, "s"), Ablation.measure

    def killed(work, *given):
        if work.to_mean:
            raise KeyboardInterrupt
        return genuine(work, *given)

    monkeypatch.setattr(Ablation, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(subjects, pieces, dataset, store, torch.device("cpu"))
    monkeypatch.setattr(Ablation, "measure", genuine)
    assert evaluate(subjects, pieces, dataset, store, torch.device("cpu")) == 4
    rows = store.measurements()
    assert set(rows["condition"]) == {"zero", "mean"}
    assert sorted(rows.loc[rows["metric"] == "ablation_gap", "level"].unique()) == list(THIRDS)


@pytest.mark.soak
def test_a_network_of_one_s_own_is_ablated(images, monkeypatch):
    monkeypatch.setattr(suite, "SHARES", (0.0, 0.2))
    monkeypatch.setattr(suite, "ATTACKED_SHARES", (0.0,))
    large = F.interpolate(images.repeat(2, 1, 1, 1), size=(32, 32))
    pair = ((255 * large).to(torch.uint8), torch.arange(12) % 4)
    rows = selbench.evaluate(resnet8(), pair, suites="ablation", corruptions="contrast")
    rows = rows[rows["metric"] == "ablated_accuracy"]
    assert set(rows["condition"]) == {"zero", "mean", "corrupted", "attacked"}
    assert list(rows.loc[rows["condition"] == "zero", "level"]) == [0, 0.2]
    none = rows[(rows["level"] == 0) & rows["condition"].isin(["zero", "mean"])]
    right = correct([resnet8()], *pair).item() / 12
    assert none["value"].tolist() == [right, right]


def test_twenty_shares_rise_from_none_to_all():
    assert len(SHARES) == 21
    assert (SHARES[0], SHARES[-1]) == (0, 1)
    assert all(low < high for low, high in pairwise(SHARES))
    assert set(suite.ATTACKED_SHARES) <= set(SHARES)


def test_how_often_images_pass_is_no_less_than_they_do(colours):
    class Counting(Channels):
        passed = 0

        def forward(self, images):
            Counting.passed += len(images)
            return super().forward(images)

    pieces = SUITES["ablation"](Setting(32, 32, corruptions=("contrast",)))
    for piece in (each for each in pieces if isinstance(each, Ablation)):
        Counting.passed = 0
        model = Counting()
        piece.measure(model, colours, colours.images)
        said = piece.passes(model, colours, 3, None)
        # Beside a few to see the layers, and what the fold of batch norms looks at.
        assert Counting.passed <= said.forward + said.backward + 8
