"""The suite of bounds: outcomes of each example and epsilon, in the store, tables and figure."""

import pandas as pd
import pytest
import torch
from torch import nn

import selbench
from selbench.bounds import certify
from selbench.datasets import Split
from selbench.figures.style import drawn
from selbench.store import CELL, Cell, StudyStore
from selbench.suites import SUITES, Passes, Setting
from selbench.suites.attacked import LINF_EPSILONS
from selbench.tables import current_rows, leaderboard
from selbench.tables.lines import tables


class Blurred(nn.Module):
    """A network of means over quarters: little of an image changes it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, images):
        means = nn.functional.avg_pool2d(images, images.shape[-1] // 2).flatten(1)
        return self.last(self.first(means * 8 - 4).relu())


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (24, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images[:, :, :4, :4] //= torch.arange(1, 25, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = Blurred()(images.float() / 255).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    return images, labels


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELBENCH_HOME", str(root / "home"))
        suites, store = ["bounds", "attacks"], root / "store"
        selbench.evaluate(Blurred(), data, suites, attacks="pgd-linf", name="blurred", store=store)
    (folder,) = store.glob("data-*")
    return StudyStore(store, folder.name)


@pytest.fixture(scope="module")
def rows(study):
    return current_rows(study)


def of(rows, condition):
    own = rows[(rows["condition"] == condition) & (rows["metric"] == "accuracy")]
    return own.set_index("level")["value"].sort_index()


def test_certified_accuracies_are_those_of_the_function_at_the_levels_of_pgd(rows, data):
    images, labels = data
    epsilons = [level / 255 for level in LINF_EPSILONS]
    for method in ("linear", "interval"):
        found = certify(Blurred(), images.float() / 255, labels, epsilons, method)
        own = of(rows, f"{method}-linf")
        assert list(own.index) == list(LINF_EPSILONS)
        assert own.tolist() == pytest.approx(
            [(e.amin(1) > 0).double().mean().item() for e in found]
        )
    assert 0 < own[4] < own[0.25] < 1


def test_a_certificate_never_exceeds_what_pgd_leaves_and_lines_are_never_looser(rows):
    interval, linear, pgd = (of(rows, f"{name}-linf") for name in ("interval", "linear", "pgd"))
    assert (interval <= linear).all()
    assert (linear <= pgd).all()


def test_each_example_that_an_attack_fells_lacks_the_certificate(rows, study):
    outcomes = study.outcomes().to_pandas()
    cells = rows.drop_duplicates(["condition", "level"])
    keys = {
        Cell(**{name: None if pd.isna(row[name]) else row[name] for name in CELL}).key: row
        for _, row in cells.fillna({"helper": "", "training": ""}).iterrows()
    }
    right = {}
    for key, part in outcomes.groupby("key", observed=True):
        found = part.set_index("example")
        right[keys[key]["condition"], keys[key]["level"]] = found["prediction"] == found["label"]
    for level in LINF_EPSILONS:
        stands, certified = right["pgd-linf", level], right["linear-linf", level]
        assert len(certified) == 24
        assert not (certified & ~stands).any()
        assert not certified[0]  # it is wrongly classified


def test_bounds_have_no_calibration_errors(rows):
    own = rows[(rows["suite"] == "bounds")]
    assert set(own["metric"]) == {"accuracy", "confidence", "cross_entropy", "brier"}


@pytest.mark.parametrize(
    "work",
    [*(e for s in ("bounds", "stability") for e in SUITES[s](Setting(8, 8)) if e.suite == s)],
    ids=lambda work: work.name,
)
def test_the_time_of_bounds_is_known_beforehand_and_none_for_a_network_that_has_none(data, work):
    split = Split(*data, torch.arange(24), "")
    found = work.passes(Blurred(), split, 3, None)
    assert found.seconds > 0 or found.double >= 24
    assert work.passes(nn.Sequential(nn.GELU(), Blurred()), split, 3, None) == Passes()


def test_a_network_without_bounds_is_left_out_in_one_sentence(data, tmp_path):
    with pytest.warns(RuntimeWarning, match="^smooth is left out of ") as warned:
        selbench.evaluate(
            nn.Sequential(nn.GELU(), Blurred()),
            data,
            ["bounds", "stability"],
            name="smooth",
            store=tmp_path,
        )
    own = {str(each.message) for each in warned if "left out" in str(each.message)}
    assert {each.split(":")[0] for each in own} >= {
        "smooth is left out of bounds",
        "smooth is left out of stability",
    }
    assert all(
        "no bounds are known for the operation gelu" in e for e in own if "selectivity" not in e
    )
    assert not list(tmp_path.glob("*/failed/*"))


def test_the_table_shows_the_range_and_the_figure_shades_it(rows, study):
    board = leaderboard(study)
    (heads, line) = tables(board)["attacks"]
    low, high = (of(rows, f"{name}-linf").mean() * 100 for name in ("linear", "pgd"))
    assert line[heads.index("certified to PGD Linf %")] == f"{low:.1f} to {high:.1f}"
    (panel,) = (each for each in drawn("attacks", rows, "x").axes if "PGD" in each.get_title())
    (gap,) = panel.collections
    corners = gap.get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(100 * of(rows, "linear-linf").min())
    assert corners.max() == pytest.approx(100 * 23 / 24)
