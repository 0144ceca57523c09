"""What the overview makes of numbers, from numbers that are made here."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from selbench._kit.errors import UnmeasuredError
from selbench.report import network_pages, overview
from selbench.report.answer import answered, picked
from selbench.report.overview import headline
from selbench.report.samples import _chosen, _nearest, _spread
from selbench.tables.tradeoff import attacks, changes, positions


def found(low, zero, high, seeds=3, spread=0.001):
    """Positions of three alphas with (corrupted, adversarial) each."""
    rows = [
        {"alpha": alpha, "clean": 0.9, "corrupted": c + spread * s, "adversarial": a + spread * s}
        for alpha, (c, a) in {-2.0: low, 0.0: zero, 2.0: high}.items()
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


def test_opposite_and_sure_is_a_trade_off():
    first, second = headline(changes(found((0.6, 0.3), (0.5, 0.4), (0.4, 0.5))))
    assert first.startswith(
        "Training that discourages selectivity (alpha = -2) leaves accuracy under corruptions "
        "10.0 points higher (95 % interval +9.8 to +10.2), and accuracy under attacks 10.0 points "
        "lower (95 % interval -10.2 to -9.8), than alpha = 0."
    )
    assert first.endswith("Both are beyond chance and opposite: a trade-off in plain accuracy.")
    assert "encourages selectivity (alpha = 2)" in second


@pytest.mark.parametrize(
    ("low", "said"),
    [
        ((0.4, 0.3), "Both are beyond chance and both lower: no trade-off in plain accuracy."),
        ((0.6, 0.5), "Both are beyond chance and both higher: no trade-off in plain accuracy."),
        ((0.6, 0.4), "The difference under corruptions is beyond chance, the one under attacks is"),
        ((0.5, 0.3), "The difference under attacks is beyond chance, the one under corruptions"),
        ((0.5, 0.4), "Both intervals include zero: with these seeds, chance alone may make that."),
    ],
)
def test_no_more_is_said_than_intervals_allow(low, said):
    assert said in headline(changes(found(low, (0.5, 0.4), (0.5, 0.4))))[0]


def test_one_seed_has_no_interval():
    text = headline(changes(found((0.6, 0.3), (0.5, 0.4), (0.4, 0.5), seeds=1)))[0]
    assert "10.0 points higher (one seed: no interval)" in text
    assert text.endswith("only more seeds can tell.")


def places(alphas, seeds=3):
    """Positions of networks with (clean, corrupted, adversarial) for each alpha."""
    rows = [
        {"alpha": alpha, "clean": c, "corrupted": k + 0.001 * s, "adversarial": a - 0.002 * s}
        for alpha, (c, k, a) in alphas.items()
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


OPPOSITE = {-1.0: (0.9, 0.7, 0.3), 0.0: (0.9, 0.6, 0.4), 1.0: (0.9, 0.5, 0.5)}


def test_a_trade_off_on_every_scale_is_named_with_its_widest_range():
    answer = answered(places(OPPOSITE), 1000)
    assert answer == (
        "From alpha = -1 to 1, networks get more robust to attacks and less to corruptions as "
        "alpha rises, on every scale (ratio, log odds and points). No scale shows one over a wider "
        "range."
    )
    turned = answered(places({-alpha: each for alpha, each in OPPOSITE.items()}), 1000)
    assert "more robust to corruptions and less to attacks as alpha rises" in turned


def test_what_holds_on_some_scales_alone_names_them():
    found = places({0.0: (0.9, 0.6, 0.30), 1.0: (0.45, 0.36, 0.09)})
    answer = answered(found, 1000)
    assert answer == (
        "Whether there is a trade-off depends on the scale: from alpha = 0 to 1 in ratio; none in "
        "log odds and points."
    )
    wider = answered(places(OPPOSITE | {2.0: (0.45, 0.30, 0.24)}), 1000)
    assert "From alpha = -1 to 1, networks get" in wider
    assert "Wider ranges depend on the scale: " in wider


def test_no_trade_off_one_alpha_and_one_seed_are_said():
    same = dict.fromkeys((-1.0, 0.0, 1.0), (0.9, 0.6, 0.4))
    assert answered(places(same), 1000).startswith("No range of alphas shows a trade-off beyond")
    assert answered(places({0.0: (0.9, 0.6, 0.4)}), 1000).startswith("One alpha alone shows no")
    assert answered(places(OPPOSITE, seeds=1), 1000).startswith("With one network for each alpha")
    assert "Of 3 ranges the widest is named" in picked(places(OPPOSITE))


def rows(cells):
    """Accuracies of (subject, alpha, suite, condition, level)."""
    columns = ["subject", "alpha", "suite", "condition", "level", "value"]
    table = pd.DataFrame(cells, columns=columns)
    return table.assign(seed=0, metric="accuracy", layer=None, n=10)


def test_positions_average_levels_then_conditions_that_all_networks_have():
    cells = []
    for name, alpha in (("a", 0.0), ("b", 1.0)):
        cells += [
            (name, alpha, "clean", "clean", None, 0.9),
            (name, alpha, "corruptions", "fog", 1.0, 0.8),
            (name, alpha, "corruptions", "fog", 2.0, 0.4),
            (name, alpha, "corruptions", "snow", 1.0, 0.2),
            (name, alpha, "corruptions-extra", "spatter", 1.0, 1.0),
            (name, alpha, "attacks", "pgd-linf", 1.0, 0.5),
            (name, alpha, "attacks", "fgsm-linf", 1.0, 0.7),
            (name, alpha, "attacks", "paper-pgd", 1.0, 1.0),
        ]
    cells.append(("a", 0.0, "corruptions", "frost", 1.0, 0.0))  # b lacks it
    cells.append(("c", 2.0, "clean", "clean", None, 0.9))  # neither
    for cell in cells[1:8]:  # not clean
        cells.append(("d", 3.0, *cell[2:]))
    table = positions(rows(cells), "s")
    assert attacks(rows(cells[:16])) == "FGSM and PGD"
    assert attacks(rows(cells[:13] + cells[14:16])) == "FGSM"  # without b's PGD
    assert list(table.index) == ["a", "b"]
    assert table.loc["a", "corrupted"] == pytest.approx((0.6 + 0.2) / 2)
    assert table.loc["b", "adversarial"] == pytest.approx(0.6)


def test_a_store_without_both_says_what_makes_them():
    only = rows([("a", 0.0, "corruptions", "fog", 1.0, 0.8)])
    with pytest.raises(UnmeasuredError, match="the study s holds no networks under corr") as lacks:
        positions(only, "s")
    assert lacks.value.words == ("--suite", "corruptions", "--suite", "attacks")


def test_networks_of_unequal_seeds_and_brought_ones_are_counted_as_they_are():
    rows = [("alpha=0 seed=0", 0.0, 0), ("alpha=0 seed=1", 0.0, 1), ("alpha=1 seed=0", 1.0, 0)]
    table = pd.DataFrame(rows, columns=["subject", "alpha", "seed"])
    table = table.assign(metric="accuracy", n=9, suite="clean", condition="clean", level=pd.NA)
    evidence = SimpleNamespace(rows=table, manifest={"study": {"dataset": {"name": "digits"}}})
    first, last = overview.tested(evidence)
    assert "with 1 to 2 random seeds each" in first
    assert last == "They were tested on 9 images that training had not seen: clean."
    strange = table.iloc[:1].assign(subject="mine.pt", alpha=np.nan, seed=pd.NA)
    evidence.rows = strange
    evidence.manifest = {"study": {"dataset": {"name": "folder", "resize": 40, "crop": 32}}}
    sized = "It was tested on 9 images, brought to 32 x 32 pixels: clean."
    assert overview.tested(evidence)[-1] == sized
    evidence.manifest["study"]["dataset"] = {"name": "digits"}
    evidence.rows = pd.concat([table, strange])
    assert overview.tested(evidence)[-1] == "They were tested on 9 images: clean."


def test_the_networks_shown_are_the_outermost_ones_and_alpha_0():
    for alphas in ([-5, -2, -1, -0.4, -0.2, -0.1, 0, 1], [*range(-5, 6), np.nan], [0], [1, 2]):
        chosen = _spread(pd.DataFrame({"alpha": alphas}))["alpha"].tolist()
        assert len(chosen) == min(5, len(alphas))
        assert chosen[0] == alphas[0]
        assert chosen[-1] == alphas[-1] or np.isnan(alphas[-1])
        assert (0 in chosen) == (0 in alphas)


def test_adversarials_of_different_numbers_and_budgets_are_shown_where_all_have_them():
    few = {"label": torch.tensor([1, 2]), "adversarial 2": 0, "adversarial 8": 0}
    many = {"label": torch.tensor([1, 2, 3]), "adversarial 2": 0}
    assert _chosen({"a": many, "b": few}) == [0, 1]
    assert _nearest({"a": many, "b": few}) == 2
    assert _nearest({"a": many, "b": {"adversarial 8": 0}}) is None


def test_a_corruption_that_lacks_severities_has_no_mean_and_is_none_of_the_worst():
    rows = [("fog", 1.0, 0.5), ("fog", 2.0, 0.7), ("snow", 1.0, 0.1)]
    table = network_pages._table(pd.DataFrame(rows, columns=["condition", "level", "value"]))
    assert network_pages._worst(table, math.nan) == ["fog: 60.0 %"]
    shown = network_pages._map("corruption", table).rows
    cells = {name: [cell and cell.text for cell in row] for name, row in shown}
    assert cells == {"fog": ["50.0", "70.0", "60.0"], "snow": ["10.0", None, None]}


def test_accuracies_are_means_over_networks_where_all_have_them():
    rows = [("fog", 1.0, 0.5), ("fog", 2.0, 0.7), ("fog", 1.0, 0.7), ("snow", 1.0, 0.1)]
    table = network_pages._table(pd.DataFrame(rows, columns=["condition", "level", "value"]))
    assert table.loc["fog"].tolist() == pytest.approx([0.6, math.nan], nan_ok=True)
    assert table.loc["snow", 1.0] == 0.1


def test_files_of_networks_differ_even_where_case_does_not_count():
    taken = set()
    names = ["a/b.pt", "A-b.pt", "a b.pt", "../../etc", "ü", "n" * 300]
    rows = [{"alpha": None, "label": name} for name in names]
    files = [network_pages._unused(network_pages._stem(row), taken) for row in rows]
    assert files[:5] == [
        *("network-a-b.pt.html", "network-A-b.pt-2.html", "network-a-b.pt-3.html"),
        *("network-..-..-etc.html", "network.html"),
    ]
    assert len(files[5]) < 100


def test_rows_of_smoothed_networks_draws_and_seeds_lead_to_the_network():
    known = [SimpleNamespace(row=row, path=f"{row}.html") for row in ("1", "mine", "mine at 64")]

    def page(row):
        return network_pages.address_of(row, known)

    assert page("mine (draw 1 of 5)") == page("mine smoothed") == page("mine") == "mine.html"
    assert page("mine at 64 smoothed") == "mine at 64.html"
    assert page("alpha=1 seed=0") == page("1 smoothed") == "1.html"
    assert page("min") == page("10") == page("alpha=10 seed=1") == ""
