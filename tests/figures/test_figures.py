"""Figures and the leaderboard's columns of the mechanism, from cells that are written here."""

import shutil
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench.figures import FIGURES, draw
from selbench.figures import style as module
from selbench.figures.corruptions import _accuracies
from selbench.figures.cost import costs
from selbench.figures.in_words import described, numbers
from selbench.figures.narrow import WIDTH, narrow
from selbench.metrics import METRICS, Metric, Panel, RowFilter
from selbench.report.drawings import behind
from selbench.report.legends import legend_of
from selbench.store import Cell, Measurement, Result, StudyStore
from selbench.study import exactly
from selbench.tables import current_rows, leaderboard
from selbench.tables.columns import COLUMNS, WIDE
from selbench.tables.formats import FORMATS, to_table

pytestmark = pytest.mark.long(11)

LEVELS = (1.0, 2.0, 4.0)
ACCURACY = {0: (0.8, 0.5, 0.1), 1: (0.9, 0.7, 0.4)}  # by alpha, at the levels
LAYERS = 4
LAYERED = {  # suite, condition, level: metrics of layers
    ("selectivity", "clean", None): ("selectivity_index", "selectivity_index_null"),
    ("selectivity", "axes", None): (
        "selectivity_index_rotated",
        "selectivity_index_best_axis_held_out",
    ),
    ("dimensionality", "clean", None): ("dimension_fraction_95", "two_nn"),
    ("representation", "fog", 1.0): ("change_dimension_fraction_95", "change_two_nn"),
    ("representation", "fog", 2.0): ("change_dimension_fraction_95", "change_two_nn"),
    ("representation", "paper-pgd", None): ("change_dimension_fraction_95", "change_two_nn"),
    ("gradients", "clean", None): (
        "input_gradient_norm",
        "input_gradient_cv_samples",
        "input_gradient_cv_units",
    ),
}
LACKING = {  # where figures are not called after the suite that they need
    "corruption-differences": ("corruptions", " --suite corruptions"),
    "cost": ("costs of attacks", " --suite attacks"),
    "tradeoff": (
        "networks under corruptions and attacks",
        " --suite corruptions --suite attacks",
    ),
    "tradeoff-relative": (
        "networks under corruptions and attacks",
        " --suite corruptions --suite attacks",
    ),
    "tradeoff-odds": (
        "networks under corruptions and attacks",
        " --suite corruptions --suite attacks",
    ),
    "tradeoff-selectivity": (
        "networks under corruptions and attacks",
        " --suite corruptions --suite attacks",
    ),
    "differences": (
        "networks under corruptions and attacks",
        " --suite corruptions --suite attacks",
    ),
    "probability": ("probabilities", " --suite probability"),
    "training": ("training curves: selbench did not train its networks", ""),
    "training-layers": ("training curves: selbench did not train its networks", ""),
}
UNNAMED = ("corruptions", "corruption-differences", "training")  # have names or titles instead
WHOLE = {
    "jacobian": (
        "jacobian_frobenius",
        "jacobian_frobenius_relative_median",
        "margin_distance_median",
    ),
    "elasticity": ("elasticity_within", "elasticity_between", "elasticity_ratio"),
}


def cell(suite, condition, level, alpha, seed=0):
    return Cell(
        suite=suite, condition=condition, level=level, group="", source="s", version=1,
        data="d", limit=None, subject=f"alpha={alpha} seed={seed}", alpha=float(alpha), seed=seed,
        training="t", architecture="resnet8", weights=f"w{alpha}{seed}",
    )  # fmt: skip


def attacked(alpha, seed):
    measured = {"accuracy": 0.95, "ece": 0.02, "ece_null": 0.01}
    rows = [Measurement(metric, value, 100) for metric, value in measured.items()]
    yield cell("clean", "clean", None, alpha, seed), rows
    for level in (1.0, 2.0):
        measured = [Measurement("accuracy", 0.9 - level / 10, 100)]
        yield cell("corruptions", "fog", level, alpha, seed), measured
    for name in ("zero", "corrupted"):
        for share, accuracy in ((0.0, 0.9), (0.05, 0.5), (1.0, 0.1)):
            named = {"ablated_accuracy": accuracy, "control_accuracy": accuracy + share / 10}
            measured = [Measurement(metric, value, 100) for metric, value in named.items()]
            yield cell("ablation", name, share, alpha, seed), measured
    for name in ("fgsm-linf", "pgd-linf", "pgd-l2", "paper-pgd"):
        for level, accuracy in zip(LEVELS, ACCURACY[alpha], strict=True):
            measured = [Measurement("accuracy", accuracy, 100)]
            if level == LEVELS[-1]:
                spent = {"passes_forward": 7.0, "passes_gradient": 40.0 * (name != "fgsm-linf")}
                measured += [Measurement(metric, value, 100) for metric, value in spent.items()]
            yield cell("attacks", name, level, alpha, seed), measured


def drawn_often(alpha, seed):
    for level in LEVELS:
        values = {"flip_attacked": level / 10, "flip_bounded": 0.1 + level / 5}
        rows = [Measurement(metric, value, 100) for metric, value in values.items()]
        yield cell("probability", "linear", level, alpha, seed), rows


def value_of(alpha, seed, layer, level):
    return (1 + alpha) * layer + 0.1 * seed + 10 * (level or 0)


def explained(alpha, seed):
    for (suite, condition, level), metrics in LAYERED.items():
        rows = []
        for metric in metrics:
            values = [value_of(alpha, seed, n, level) for n in range(1, LAYERS + 1)]
            rows += [Measurement(metric, v, 100, n, f"relu{n}") for n, v in enumerate(values, 1)]
            rows.append(Measurement(metric, sum(values) / LAYERS, 100))
        yield cell(suite, condition, level, alpha, seed), rows
    for suite, metrics in WHOLE.items():
        rows = [Measurement(metric, 1.0 + alpha + seed, 100) for metric in metrics]
        yield cell(suite, "clean", None, alpha, seed), rows


def curves(alpha):
    return [
        {
            "number": number,
            "cross_entropy": 2.0 / number,
            "selectivity": alpha * number / 10 if alpha else None,
            "accuracy": 0.5 + number / 10,
            "index": [0.1 * number, 0.2 * number],
        }
        for number in (1, 2, 3)
    ]


def write(folder, seeds=1):
    store = StudyStore(folder, "study")
    store.prepare()
    conditions, subjects = {}, {}
    for alpha in ACCURACY:
        for seed in range(seeds):
            for which, rows in (
                *attacked(alpha, seed),
                *drawn_often(alpha, seed),
                *explained(alpha, seed),
            ):
                level = "" if which.level is None else f"/{which.level:g}"
                conditions[f"{which.suite}/{which.condition}{level}"] = ["s", 1, ""]
                store.write([Result(which, rows)])
            facts = {"weights": f"w{alpha}{seed}", "training": "t", "diverged": False}
            subjects[f"alpha={alpha} seed={seed}"] = facts | {"curves": curves(alpha)}
    made = {"data": "d", "training": "t", "study": {"dataset": {"validation": 50}}}
    store.finish({**made, "conditions": conditions, "subjects": subjects})
    return store


def test_means_over_corruptions_are_the_leaderboard_s(tmp_path):
    store = write(tmp_path / "runs")
    for alpha, accuracy in ((0, 0.5), (1, 0.7)):
        for name, extra in (("snow", 0.0), ("speckle_noise", 0.2)):  # the latter is extra
            for level in (1.0, 2.0):
                suite = "corruptions-extra" if extra else "corruptions"
                measured = [Measurement("accuracy", accuracy + extra - level / 10, 100)]
                store.write([Result(cell(suite, name, level, alpha), measured)])
    manifest = store.manifest()
    for suite, name in (("corruptions", "snow"), ("corruptions-extra", "speckle_noise")):
        manifest["conditions"] |= {f"{suite}/{name}/{n}": ["s", 1, ""] for n in (1, 2)}
    store.finish(manifest)
    rows = current_rows(store)
    maps = _accuracies(rows.assign(label=module.labels_of(rows)), "s")
    means = [part.loc["mean of the above"].mean() / 100 for part in maps.values()]
    assert means == pytest.approx(leaderboard(store).table["mca"].tolist())
    assert [*maps["alpha = 0"].index] == ["snow", "fog", "mean of the above", "speckle_noise"]


def test_means_over_corruptions_are_over_those_that_all_groups_have():
    rows = [("fog", "0", 0.5), ("snow", "0", 0.9), ("fog", "1", 0.4), ("snow", "1", 0.6)]
    table = pd.DataFrame(rows, columns=["condition", "subject", "value"])
    table = table.assign(suite="corruptions", metric="accuracy", level=1.0, seed=0)
    table = table.assign(alpha=table["subject"].astype(float), subject="alpha=" + table["subject"])
    table = table.assign(label=module.labels_of(table))
    assert _accuracies(table, "s")["alpha = 1"].loc["mean of the above"].item() == pytest.approx(50)
    less = table.drop(index=3)  # alpha = 1 has no snow
    for name, mean in (("alpha = 0", 50), ("alpha = 1", 40)):
        part = _accuracies(less, "s")[name]
        assert part.loc["mean of common"].item() == pytest.approx(mean)
        assert "mean of the above" not in part.index


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Return a function that returns a store of so many seeds, written once for all tests."""
    return cache(lambda seeds: write(tmp_path_factory.mktemp("stored") / "runs", seeds))


@pytest.fixture(scope="module")
def store(stored):
    return stored(1)


@pytest.fixture(scope="module")
def many(store):
    """Return the rows of networks of seven alphas."""
    rows = current_rows(store)
    one = rows[rows["alpha"] == 1]
    others = [
        one.assign(alpha=a, subject=f"alpha={a:g} seed=0") for a in (-2.0, -1.0, 0.5, 2.0, 3.0)
    ]
    return pd.concat([rows, *others], ignore_index=True)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_what_it_rests_on_and_its_table_in_the_report_has_all_of_it(name, many):
    rows = behind(many, name, legend_of(name, ""))
    parts, whole = (module.drawn(name, each, "study") for each in (rows, many))
    assert (described(parts), numbers(parts)) == (described(whole), numbers(whole))
    assert len(rows) < len(many) or name == "cost"
    assert whole.get_supxlabel().startswith("7 networks, 1 per alpha; ")
    assert whole.get_supxlabel() in described(whole)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "2 networks, 1 per alpha; 100 images"),
        (2, "4 networks, 2 per alpha; 100 images"),
        (3, "6 networks, 3 per alpha; 100 images; bands: 95 % intervals over seeds"),
    ],
)
def test_figures_say_what_they_rest_on(stored, seeds, said):
    rows = current_rows(stored(seeds))
    assert module.drawn("attacks", rows, "study").get_supxlabel() == said
    crosses = "; crosses: 95 % intervals over seeds" if seeds > 1 else ""
    whole = said.partition("; bands")[0]
    assert module.drawn("tradeoff", rows, "study").get_supxlabel() == whole + crosses
    assert module.drawn("jacobian", rows, "study").get_supxlabel() == whole
    brought = rows.assign(alpha=float("nan"))
    brought = brought.assign(n=brought["n"].where(brought["suite"] != "clean", 2500))
    assert module.drawn("tradeoff", brought, "study").get_supxlabel() == (
        f"{whole.partition(',')[0]}; 100 to 2,500 images"
    )


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_stacks_its_panels_on_a_phone(name, many):
    wide = module.drawn(name, many, "study")
    titles = [axes.get_title() for axes in wide.axes if axes.axison]
    tall = narrow(wide)
    tall.draw_without_rendering()
    bars = [axes for axes in tall.axes if axes.get_label() == "<colorbar>"]
    panels = [axes for axes in tall.axes if axes not in bars]
    assert [axes.get_title() for axes in (*panels, *bars)] == titles
    assert tall.get_size_inches()[0] == WIDTH
    boxes = [axes.get_window_extent() for axes in (*bars, *panels)]
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert all(box.x0 >= 0 and box.x1 <= tall.bbox.width for box in boxes)
    assert all(axes.yaxis.get_tick_params()["labelleft"] for axes in panels)
    assert len(bars) == (name == "training-layers")
    for axes in panels:
        assert axes.get_ylabel() or name in UNNAMED, name


@pytest.mark.parametrize("name", ["attacks", "corruptions"])
@pytest.mark.parametrize("suffix", module.SUFFIXES)
@pytest.mark.sample
def test_figures_are_drawn_in_every_format(store, name, suffix, tmp_path):
    path = tmp_path / f"figure{suffix}"
    draw(name, store, None, path)
    begins = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(begins[suffix])


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(name, stored):
    texts = [each.get_text() for each in drawn(name, stored(3)).findobj(Text)]
    assert any("study: " in text for text in texts)


QUICK = "tradeoff"  # to draw; drawing all of them, twice, takes minutes


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == QUICK else pytest.mark.soak) for name in FIGURES],
)
@pytest.mark.parametrize("seeds", [2, 3])  # lines, bands
@pytest.mark.sample
def test_equal_stores_give_equal_figures(name, seeds, stored, tmp_path):
    store = stored(seeds)
    for path in ("a.svg", "b.svg"):
        draw(name, store, None, tmp_path / path)
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()


def test_ablation_curves_have_their_controls_dashed(store):
    zero, corrupted = drawn("ablation", store).axes
    assert (zero.get_title(), corrupted.get_title()) == ("clean, set to 0", "corrupted, severity 3")
    solid = [line for line in zero.get_lines() if line.get_linestyle() == "-"]
    dashed = [line for line in zero.get_lines() if line.get_linestyle() == "--"]
    assert len(solid) == len(dashed) == len(ACCURACY)
    assert list(solid[0].get_xdata()) == [0, 5, 100]
    assert list(solid[0].get_ydata()) == pytest.approx([90, 50, 10])
    assert list(dashed[0].get_ydata()) == pytest.approx([90, 50.5, 20])


def drawn(name, store):
    figure = module.drawn(name, current_rows(store), "study")
    assert isinstance(figure, Figure)
    return figure


def test_attack_curves_begin_at_the_clean_accuracy_and_share_a_scale(store):
    axes = drawn("attacks", store).axes
    assert [each.get_title() for each in axes][:2] == ["FGSM, L-inf", "PGD, L-inf"]
    zero, one = axes[1].lines
    assert list(zero.get_ydata()) == pytest.approx([95, 80, 50, 10])
    assert list(one.get_ydata()) == pytest.approx([95, 90, 70, 40])
    assert zero.get_color() != one.get_color()


def test_legends_name_what_is_drawn(store):
    rows = current_rows(store)
    clean = rows[(rows["suite"] == "clean") & (rows["alpha"] == 1)]
    unattacked = clean.assign(subject="alpha=2 seed=0", alpha=2.0)
    figure = module.drawn("attacks", pd.concat([rows, unattacked]), "study")
    legend = figure.axes[-1].get_legend()
    assert [each.get_text() for each in legend.get_texts()] == ["0", "1"]


def test_layers_are_on_x_and_a_line_is_an_alpha(store):
    clean, corrupted, pgd, *_ = drawn("dimensionality", store).axes
    for alpha, line in enumerate(clean.lines):
        assert line.get_label() == str(alpha)
        assert list(line.get_xdata()) == [1, 2, 3, 4]
        assert list(line.get_ydata()) == [value_of(alpha, 0, n, None) for n in range(1, 5)]
    means = [(value_of(1, 0, n, 1) + value_of(1, 0, n, 2)) / 2 for n in range(1, 5)]
    assert list(corrupted.lines[1].get_ydata()) == pytest.approx(means)
    assert list(pgd.lines[1].get_ydata()) == [2, 4, 6, 8]


def test_the_null_is_dotted_beside_the_index(store):
    units = drawn("selectivity", store).axes[0]
    assert [line.get_linestyle() for line in units.lines] == ["-", ":", "-", ":"]


def test_the_axis_of_a_share_ends_at_one_where_intervals_go_on(stored):
    rows = current_rows(stored(3))
    rows.loc[rows["metric"].str.contains("selectivity_index"), "value"] /= 8.2
    rows.loc[rows["metric"].str.contains("dimension_fraction"), "value"] /= 100
    high = [each.get_ylim()[1] for each in module.drawn("selectivity", rows, "study").axes]
    assert high == [pytest.approx(1.02)] * 3  # means reach 0.99, intervals beyond 1
    fraction, *_, intrinsic = module.drawn("dimensionality", rows, "study").axes
    assert fraction.get_ylim()[1] < 1.02 < intrinsic.get_ylim()[1]


def test_three_seeds_have_a_band_and_two_have_lines(stored):
    three = drawn("gradients", stored(3)).axes[1]
    assert (len(three.lines), len(three.collections)) == (2, 2)
    two = drawn("gradients", stored(2)).axes[1]
    assert (len(two.lines), len(two.collections)) == (2 + 4, 0)


def test_networks_are_dots_over_their_alpha(stored):
    ratio = drawn("elasticity", stored(3)).axes[2]
    dots = [list(line.get_ydata()) for line in ratio.lines]
    assert dots == [[1, 2, 3], [2, 3, 4]]
    assert [label.get_text() for label in ratio.get_xticklabels()] == ["0", "1"]


def test_accuracy_is_drawn_against_each_networks_selectivity(stored):
    rows = current_rows(stored(3))
    panels = module.drawn("tradeoff-selectivity", rows, "study").axes
    assert [each.get_title() for each in panels] == [
        *("clean", "under corruptions", "under FGSM and PGD"),
    ]
    index = [value_of(1, seed, (LAYERS + 1) / 2, None) for seed in range(3)]
    for axes, accuracy in zip(panels, (95, 75, 100 * 2 / 3), strict=True):
        dots = [line for line in axes.get_lines() if line.get_alpha()][1]  # of alpha = 1
        assert list(dots.get_xdata()) == pytest.approx(index)
        assert list(dots.get_ydata()) == pytest.approx([accuracy] * 3)
    lacking = rows[rows["suite"] != "selectivity"]
    with pytest.raises(UnmeasuredError, match="holds no selectivity of networks under corruptions"):
        module.drawn("tradeoff-selectivity", lacking, "study")


def colours_of(rows):
    return module.colours_of(rows.assign(label=module.labels_of(rows)))


def lines_of(name, rows):
    """Return the colour of each line and dash of a figure by its name."""
    axes = module.drawn(name, rows, "study").axes
    return {
        each.get_label(): to_rgba(each.get_color()) for part in axes for each in part.get_lines()
    }


@pytest.mark.parametrize("name", ["attacks", "tradeoff", "gradients"])
@pytest.mark.sample
def test_an_alpha_has_one_colour_in_all_figures_of_a_study(store, name):
    rows = current_rows(store)
    own = rows[(rows["suite"] == "selectivity") & (rows["alpha"] == 1)]
    rows = pd.concat([rows, own.assign(subject="alpha=5 seed=0", alpha=5.0)])
    colours, others = lines_of("selectivity", rows), lines_of(name, rows)
    assert colours["1"] == others["1"]
    assert colours["1"] != colours["5"]
    assert "5" not in others


def test_a_network_has_one_name_in_all_panels(store):
    rows = current_rows(store)
    rows["alpha"] = np.nan
    names = {"alpha=0 seed=0": "here/mine.pth", "alpha=1 seed=0": "there/mine.pth"}
    rows["subject"] = rows["subject"].replace(names)
    rows = rows[(rows["condition"] != "pgd-l2") | (rows["subject"] == "here/mine.pth")]
    alone = module.drawn("attacks", rows, "study").axes[2]
    assert [each.get_label() for each in alone.get_lines()] == ["here/mine.pth"]


def test_brought_networks_are_told_apart_by_their_files_names(store):
    rows = current_rows(store)
    rows["alpha"] = rows["alpha"].where(rows["alpha"] != 1)
    rows["subject"] = rows["subject"].replace({"alpha=1 seed=0": "here/mine.pth"})
    colours = colours_of(rows)
    assert set(colours) == {"0", "mine.pth"}
    assert colours["mine.pth"] == (0, 0, 0, 1)
    rows["alpha"] = None
    rows["subject"] = rows["subject"].replace({"alpha=0 seed=0": "there/mine.pth"})
    colours = colours_of(rows)
    assert list(colours) == ["here/mine.pth", "there/mine.pth"]
    assert len(set(colours.values())) == 2


@pytest.mark.parametrize("alphas", [[-5.0, -2, -1, -0.4, 0, 0.4, 1, 2], [-2.0, 0, 100], [1.0]])
def test_alphas_are_told_apart_by_their_colours(alphas):
    colours = colours_of(pd.DataFrame({"alpha": alphas, "subject": list(map(exactly, alphas))}))
    assert list(colours) == list(map(exactly, alphas))
    for (name, (red, green, blue, _)), alpha in zip(colours.items(), alphas, strict=True):
        assert np.sign(round(red - blue, 2)) == np.sign(alpha), name
        assert alpha or red == pytest.approx(green, abs=0.01), name
    for one, other in pairwise(np.array(list(colours.values()))):
        assert abs(one - other).sum() > 0.3  # of 3


@pytest.mark.parametrize("name", FIGURES)
def test_a_store_without_what_is_to_be_drawn_says_how_to_make_it(tmp_path, name):
    empty = StudyStore(tmp_path / "runs", "bare")
    empty.prepare()
    empty.finish({"data": "d", "training": "t", "conditions": {}, "subjects": {}})
    what, suites = LACKING.get(name, (name, f" --suite {name}"))
    message = f"^the study bare holds no {what}; run `selbench run bare{suites}`$"
    with pytest.raises(SelbenchError, match=message):
        draw(name, empty, None, tmp_path / "x.svg")


@pytest.mark.parametrize("name", ["training", "training-layers", "corruption-differences"])
def test_networks_of_others_are_not_told_to_train(store, name):
    rows = current_rows(store)
    brought = rows[rows["suite"] != "training"].assign(alpha=np.nan)
    with pytest.raises(SelbenchError, match=r"selbench (did not train|trained)") as lacks:
        module.drawn(name, brought, "study")
    assert not isinstance(lacks.value, UnmeasuredError)


def test_wrong_words_are_one_sentence(store, refused):
    there = ("--store", store.root)
    assert refused("figure", "attack", *there) == "unknown figure 'attack'; did you mean 'attacks'?"
    assert "unknown suffix of a figure's file '.jpg'" in refused(
        "figure", "attacks", "--output", "x.jpg", *there
    )


def test_the_leaderboard_has_the_mechanism_over_seeds_and_corruptions(stored):
    table = leaderboard(stored(3)).table.set_index("subject")
    middle = 2.5  # mean of the layers' numbers
    assert table.loc["1", "dimension"] == pytest.approx(2 * middle + 0.1)
    assert table.loc["1", "change_corrupted"] == pytest.approx(2 * middle + 0.1 + 15)
    assert table.loc["1", "change_attacked"] == pytest.approx(2 * middle + 0.1)
    assert table.loc["0", "jacobian"] == pytest.approx(2)
    assert table.loc["0", "selectivity"] == pytest.approx(middle + 0.1)
    assert table.loc["0", "elasticity_interval"] > 0
    named = [name for name, each in COLUMNS.items() if each.table in WIDE["mechanism"]]
    assert table[named].notna().all(axis=None)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.sample
def test_every_format_shows_the_mechanism(store, name):
    text = FORMATS[name]([leaderboard(store)])
    assert ("cv_units" if name in ("csv", "json") else "CV units") in text


def test_the_terminal_s_tables_fit_80_columns(store):
    from rich.console import Console

    console = Console(width=80, record=True)
    console.print(to_table(leaderboard(store)))
    text = console.export_text()
    assert "study: dimensionality" in text
    assert "margin dist." in text


@pytest.mark.parametrize("name", ["jacobian", "elasticity", "gradients", "selectivity"])
@pytest.mark.sample
def test_a_panel_without_numbers_stays_empty_and_over_layers_goes(name, tmp_path):
    store = StudyStore(tmp_path / "runs", "study")
    store.prepare()
    kept = {"gradients": "input_gradient_norm", "selectivity": "selectivity_index"}
    metric = kept.get(name, WHOLE.get(name, ("",))[0])
    layer = 1 if name in kept else None
    store.write([Result(cell(name, "clean", None, 0), [Measurement(metric, 1.0, 9, layer)])])
    facts = {"weights": "w00", "training": "t", "diverged": False}
    conditions = {f"{name}/clean": ["s", 1, ""]}
    subjects = {"alpha=0 seed=0": facts}
    store.finish({"data": "d", "training": "t", "conditions": conditions, "subjects": subjects})
    draw(name, store, None, tmp_path / "x.svg")
    first, *others = drawn(name, store).axes
    assert first.lines
    assert len(others) == (0 if name in kept else 2)


def test_training_curves_are_drawn_epoch_by_epoch_and_without_selectivity_at_zero(store):
    loss, selectivity, accuracy, _ = drawn("training", store).axes
    assert [line.get_label() for line in loss.lines] == ["0", "1"]
    assert [line.get_label() for line in selectivity.lines] == ["1"]
    assert list(selectivity.lines[0].get_xdata()) == [1, 2, 3]
    assert list(selectivity.lines[0].get_ydata()) == pytest.approx([0.1, 0.2, 0.3])
    assert list(accuracy.lines[1].get_ydata()) == pytest.approx([60, 70, 80])


def test_training_curves_tell_why_units_die_where_it_is_known(store, tmp_path):
    manifest = store.manifest()
    for alpha in ACCURACY:
        for number, epoch in enumerate(manifest["subjects"][f"alpha={alpha} seed=0"]["curves"]):
            pull = {"pull": 10.0 ** (number + 2)} if alpha else {}
            epoch |= {"dead": [number, 2 * number], "gradient": 10.0**number, **pull}
    told = StudyStore(tmp_path, "study")
    shutil.copytree(store.folder, told.folder)
    told.finish({name: manifest[name] for name in manifest if name not in ("digest", "state")})
    figure = drawn("training", told)
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in panels[3:]] == [
        "dead units",
        "selectivity index, validation images",
        "norm of cross-entropy's gradient",
        "norm of the regulariser's gradient",
    ]
    dead, index, gradient, pull = panels[3:]
    assert list(index.lines[0].get_ydata()) == pytest.approx([0.15, 0.3, 0.45])
    assert [list(line.get_ydata()) for line in dead.lines] == [[0, 3, 6]] * 2
    norms = [list(line.get_ydata()) for line in gradient.lines + pull.lines]
    assert norms[:-1] == [pytest.approx([1, 10, 100])] * 2
    assert norms[-1] == pytest.approx([100, 1000, 10000])
    assert pull.get_yscale() == "log"


@pytest.mark.soak
def test_a_metric_of_a_plugin_has_a_panel_in_one_row_alone(store, monkeypatch):
    monkeypatch.setattr(METRICS, "_functions", dict(METRICS._functions))
    rows = RowFilter(("dimensionality",), "two_nn", ("clean",))
    panel = Panel("dimensionality", "once more")
    METRICS(Metric("again", "again", "the same again", "dimensionality", rows, panel=panel))
    figure = drawn("dimensionality", store)
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert "once more" in titles
    assert len(titles) == len(figure.axes) - 1


def test_layers_are_named_if_all_networks_have_the_same(many):
    def names(rows):
        (axes, *_) = module.drawn("gradients", rows, "study").axes
        return [text.get_text() for text in axes.get_xticklabels()]

    assert names(many) == [f"relu{n}" for n in range(1, LAYERS + 1)]
    ours = many.assign(layer_name="network." + many["layer_name"])
    assert names(ours) == names(many)
    other = ours["layer_name"].where(ours["alpha"] != 1, "act")
    assert "relu1" not in names(ours.assign(layer_name=other))
    deep = [many.assign(layer=many["layer"] + 4 * n) for n in range(10)]  # 40 layers
    deep = [each.assign(layer_name="l" + each["layer"].astype(str)) for each in deep]
    layered = pd.concat(deep, ignore_index=True).dropna(subset=["layer"])
    assert names(layered) == [f"l{n}" for n in range(1, 41, 2)]


def test_costs_are_passes_and_errors_beside_those_of_the_best_attack():
    def rows(condition, values, spent):
        for level, value in zip((1.0, 2.0), values, strict=True):
            yield "attacks", condition, level, "accuracy", value
        for metric, value in spent.items():
            yield "attacks", condition, 2.0, metric, value

    every = [
        ("clean", "clean", None, "accuracy", 0.9),
        *rows("fgsm-linf", (0.7, 0.5), {"passes_forward": 2, "passes_gradient": 1}),
        *rows("pgd-linf", (0.6, 0.5), {"passes_forward": 3, "passes_gradient": 80}),
        *rows("noise-l2", (0.9, 0.9), {"passes_forward": 5, "passes_gradient": 0}),
        *rows("paper-pgd", (0.6, 0.5), {"passes_forward": 1, "passes_gradient": 40}),
    ]
    names = ["suite", "condition", "level", "metric", "value"]
    table = costs(pd.DataFrame(every, columns=names).assign(subject="a"))
    assert table["attack"].tolist() == ["fgsm-linf", "pgd-linf"]  # noise finds no error at all
    assert table["passes"].tolist() == [4, 163]
    assert table["found"].tolist() == pytest.approx([(0.2 + 0.4) / (0.3 + 0.4), 1])


def test_attacks_that_find_no_error_have_no_cost_to_compare(many):
    rows = many.assign(value=many["value"].where(many["metric"] != "accuracy", 0.5))
    with pytest.raises(SelbenchError, match=r"^no attack on the networks of study found an error$"):
        module.drawn("cost", rows, "study")


def test_layers_have_the_index_of_each_epoch(store):
    figure = drawn("training-layers", store)
    none, one, _ = figure.axes  # alphas, and the scale of colours
    assert [axes.get_title() for axes in (none, one)] == [
        "alpha = 0 (1 network)",
        "alpha = 1 (1 network)",
    ]
    lines = [list(line.get_ydata()) for line in one.lines]
    assert lines == [pytest.approx([0.1, 0.2, 0.3]), pytest.approx([0.2, 0.4, 0.6])]
