"""The suite of probability: networks whose dropout makes known Bernoulli worlds; ensembles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

import selbench
from selbench._kit.errors import NotRandomError
from selbench.bounds.changes import changes
from selbench.datasets.dataset import make_split
from selbench.figures.style import drawn
from selbench.networks.dropout import Drawn, dropouts
from selbench.statistics.draws import most_draws
from selbench.store import open_studies
from selbench.study import ProbabilitySpec
from selbench.suites import SUITES, Passes, Setting
from selbench.suites.attacked import LINF_EPSILONS
from selbench.suites.probability import Probability, Tally
from selbench.tables import current_rows, leaderboard
from selbench.tables.lines import tables

QUICK = ProbabilitySpec(error=0.2, confidence=0.9, method="interval")


class World(nn.Module):
    """Class 0 where the first value of an image is above 0.5 + 0.01 (1 - p); 1 where it is dropped.

    Bounds are exact: both logits follow one value, in opposite directions.
    """

    def __init__(self, p=0.5, dropout=nn.Dropout):
        super().__init__()
        self.dropout = dropout(p)

    def forward(self, images):
        side = self.dropout(images.flatten(1)[:, :1] - 0.5)
        return torch.cat([side.relu(), (0.02 - side).relu()], 1)


class Wide(nn.Module):
    """The first channel, 400 times."""

    def forward(self, images):
        return images[:, :1].repeat(1, 400, 1, 1)


@pytest.fixture
def images():
    images = torch.full((3, 3, 2, 2), 0.5)
    images[:, 0, 0, 0] = torch.tensor([0.52, 0.9, 0.1])
    return images


def test_a_draw_is_one_network_for_all_images_and_batches(images):
    network = Drawn(
        nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 12), nn.Dropout(0.5))
    )
    network.eval()
    network.draw(3, images)
    first = network(images)
    assert torch.allclose(first[1:], network(images[1:]), atol=1e-6)
    zeros = first == 0
    assert 0 < zeros[0].sum() < 12
    assert (zeros == zeros[:1]).all()
    network.draw(4, images)
    assert not torch.equal(first, network(images))
    network.draw(3, images)
    assert torch.equal(first, network(images))


def test_the_network_itself_stays_as_it_is(images):
    network = World().eval()
    Drawn(network).draw(0, images)
    assert torch.equal(network(images)[:, 0], (images[:, 0, 0, 0] - 0.5).relu())


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d])
def test_dropout_drops_its_share_and_keeps_the_mean(p, kind):
    network = Drawn(nn.Sequential(Wide(), kind(p), nn.Flatten()).eval())
    ones = torch.ones(2, 3, 3, 3)
    network.draw(0, ones)
    values = network(ones).view(2, 400, 3, 3)
    expected = ones.new_tensor(1 / (1 - p) if p < 1 else 0.0)
    assert ((values == 0) | values.isclose(expected)).all()
    assert (values == 0).double().mean().item() == pytest.approx(p, abs=0.1)
    if kind is nn.Dropout2d:
        assert (values == values[:, :, :1, :1]).all()


def test_other_kinds_of_dropout_are_refused_and_none_that_drops_nothing_counts():
    assert dropouts(nn.Sequential(nn.Dropout(0.0), nn.AlphaDropout(0.0))) == []
    with pytest.raises(NotRandomError, match=r"^draws of AlphaDropout are not known, only"):
        dropouts(nn.AlphaDropout(0.5))


def test_changes_of_a_deterministic_network_lie_between_attack_and_bounds(images):
    network = Drawn(World(1e-9).eval())
    network.draw(0, images)
    epsilons = [0.001, 0.02, 0.1]
    seen = changes(network, images, epsilons, "linear")
    # The border at 0.51 is 0.01 from the first image, and 0.39 or 0.41 from the others.
    expected = [[False, True, True], [False, False, False], [False, False, False]]
    assert seen.found.T.tolist() == seen.possible.T.tolist() == expected


class Worlds(nn.Module):
    """A Bernoulli world for each image of `one_hot`, since each has its own unit of dropout.

    If its unit is kept, an image is of class 0 and close to the border; otherwise it is of class 1,
    and nothing changes that.
    """

    def __init__(self, dropped):
        super().__init__()
        self.dropout = nn.Dropout(dropped)

    def forward(self, images):
        kept = self.dropout((images[:, 0].flatten(1) - 0.5).relu()).sum(1, keepdim=True)
        return torch.cat([kept, 0.02 - kept], 1)


def one_hot(count):
    """Return images of `count` pixels, each with another one that is not black."""
    values = torch.eye(count).mul(132).byte().view(count, 1, 1, count)
    return values.repeat(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("share", "worlds"),
    [(0.5, 40), *(pytest.param(each, 500, marks=pytest.mark.soak) for each in (0.03, 0.5, 0.8))],
)
def test_known_worlds_are_covered_as_often_as_stated(share, worlds):
    labels = torch.zeros(worlds, dtype=torch.int64)
    work = Probability("probability", "x", spec=QUICK)
    drawn_from = work._drawn(Worlds(1 - share).eval(), False)
    first, *_, last = work._outcomes(*drawn_from, make_split(one_hot(worlds), labels))
    assert not first["flip_bounded"].any()  # a ball of 0.25/255 does not reach the border
    assert torch.equal(last["flip_attacked"], last["flip_bounded"])
    near = (last["flip_attacked"] - share).abs() <= 0.2 + 1e-6
    assert near.sum() >= binom.ppf(0.001, worlds, 0.9)
    assert last["flip_attacked"].mean().item() == pytest.approx(
        share, abs=0.05 * (500 / worlds) ** 0.5
    )
    assert last["flip_draws"].max() == most_draws(0.2, 0.9)


def test_a_tally_counts_until_every_event_of_an_image_has_enough_draws():
    tally = Tally.empty(QUICK, 1, 1, 2)
    rolled = np.random.default_rng(1).random((38, 2)) < [0, 0.5]
    for each in torch.from_numpy(rolled):
        tally.add(each[None, None, tally.left])
    assert tally.draws.flatten().tolist() == [29, 38]
    assert tally.hits.flatten().tolist() == [0, rolled[:, 1].sum()]
    assert not len(tally.left)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    images = torch.full((4, 3, 2, 2), 128, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor([132, 230, 25, 134])
    labels = torch.tensor([0, 0, 1, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELBENCH_HOME", str(root / "home"))
        patch.setattr("selbench.suites.probability.most_draws", lambda error, confidence: 8)
        selbench.evaluate(
            World().eval(), (images, labels), "probability", name="world", store=root / "store"
        )
    (found,) = open_studies(root / "store")
    return found


def test_a_run_stores_a_range_for_each_example_and_epsilon(store):
    rows = current_rows(store)
    own = rows[rows["suite"] == "probability"].pivot(
        index="level", columns="metric", values="value"
    )
    assert list(own.index) == list(LINF_EPSILONS)
    assert (own["flip_attacked"] <= own["flip_bounded"]).all()
    assert 0 < own["flip_attacked"][16] < 1
    assert not {name for name in own if name.startswith("ece")}
    (condition,) = rows.loc[rows["suite"] == "probability", "condition"].unique()
    assert condition == "linear-error-0.1-confidence-0.95-draws-8"
    examples = store.outcomes().to_pandas().dropna(subset="flip_attacked")
    assert len(examples) == 4 * len(LINF_EPSILONS)
    for name in ("flip_attacked", "flip_bounded", "flip_draws"):
        mean = examples[name].mean()
        assert own[name].mean() == pytest.approx(mean, rel=1e-5)


def test_the_table_shows_the_range_and_the_figure_shades_it(store):
    rows = current_rows(store)
    own = rows[rows["suite"] == "probability"].groupby("metric")["value"].mean() * 100
    (heads, line) = tables(leaderboard(store))["probability of a flip"]
    expected = f"{own['flip_attacked']:.1f} to {own['flip_bounded']:.1f}"
    assert line[heads.index("P(flip) %")] == expected
    (axes,) = drawn("probability", rows, "x").axes
    low, high = axes.get_lines()[0].get_ydata(), axes.get_lines()[-1].get_ydata()
    assert low[0] == high[0] == 0
    assert np.mean(low[1:]) == pytest.approx(own["flip_attacked"])
    assert np.mean(high[1:]) == pytest.approx(own["flip_bounded"])


def test_a_network_that_is_always_the_same_is_left_out_in_one_sentence(images, tmp_path):
    data = ((images * 255).byte(), torch.tensor([0, 0, 1]))
    with pytest.warns(RuntimeWarning, match="^fixed is left out of") as warned:
        selbench.evaluate(World(0.0).eval(), data, "probability", name="fixed", store=tmp_path)
    (said,) = {str(each.message) for each in warned if "of probability" in str(each.message)}
    assert said == (
        "fixed is left out of probability: it has no dropout, and no networks of other seeds form "
        "an ensemble with it; use a network with dropout modules, or a study with several seeds"
    )


def test_the_dry_run_knows_the_draws_and_the_time(images):
    *_, work = SUITES["probability"](Setting(2, 2))
    assert work.sampling == (
        "probability: at most 185 draws of dropout for each image, for an error of 0.1 with a "
        "confidence of 0.95"
    )
    split = make_split((images * 255).byte(), torch.zeros(3, dtype=torch.int64))
    assert work.passes(World().eval(), split, 2, None).seconds > 0
    assert work.passes(World(0.0).eval(), split, 2, None) == Passes()
    *_, member = SUITES["probability"](Setting(2, 2, seeds=2))
    assert member.passes(World(0.0).eval(), split, 2, None).seconds > 0


def test_a_member_of_an_ensemble_is_drawn_once(images):
    split = make_split((images * 255).byte(), torch.zeros(3, dtype=torch.int64))
    work = Probability("probability", "x", ensemble=True)
    found = work._outcomes(*work._drawn(World(0.0).eval(), True), split)
    assert {each["flip_draws"].unique().item() for each in found} == {1}
    changed = [each["flip_attacked"].tolist() for each in found]
    assert changed == [each["flip_bounded"].tolist() for each in found]
    assert [each for each, *_ in changed] == [0, 0, 0, 1, 1, 1, 1]  # 2/255 from the border, at most


@pytest.mark.soak
def test_the_seeds_of_a_study_are_an_ensemble(selbench, tiny_study):
    words = ["run", tiny_study, "--suite", "probability", "--alpha", "0", "--limit", "4", "--quiet"]
    done = selbench(*words, "--seed", "0,1")
    assert done.code == 0, done.err
    (found,) = open_studies(Path("runs"))
    rows = current_rows(found)
    own = rows[(rows["suite"] == "probability") & (rows["metric"] == "flip_draws")]
    assert own["value"].unique().tolist() == [1]
    assert set(own["seed"]) == {0, 1}
    alone = selbench("run", tiny_study, "--suite", "probability", "--seed", "0", "--dry-run")
    assert alone.code == 0, alone.err
