"""What the overview makes of numbers, from numbers that are made here."""

import pandas as pd
import pytest

from selbench.errors import UnmeasuredError
from selbench.report.overview import headline
from selbench.tradeoff import changes, positions


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
    assert first.endswith("Both are beyond chance and opposite: a trade-off.")
    assert "encourages selectivity (alpha = 2)" in second


@pytest.mark.parametrize(
    ("low", "said"),
    [
        ((0.4, 0.3), "Both are beyond chance and both lower: no trade-off, one direction."),
        ((0.6, 0.5), "Both are beyond chance and both higher: no trade-off, one direction."),
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
    assert list(table.index) == ["a", "b"]
    assert table.loc["a", "corrupted"] == pytest.approx((0.6 + 0.2) / 2)
    assert table.loc["b", "adversarial"] == pytest.approx(0.6)


def test_a_store_without_both_says_what_makes_them():
    only = rows([("a", 0.0, "corruptions", "fog", 1.0, 0.8)])
    with pytest.raises(UnmeasuredError, match="the study s holds no networks under corr") as lacks:
        positions(only, "s")
    assert lacks.value.words == ("--suite", "corruptions", "--suite", "attacks")
