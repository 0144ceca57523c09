"""The report's figures: maps of corruptions, the trade-off, in words, and stacked for phones."""

import math

import numpy as np
import pytest
from made import ACCURACY, write
from matplotlib.figure import Figure

from selbench._kit.errors import SelbenchError, UnmeasuredError
from selbench.figures import FIGURES
from selbench.figures.in_words import ACROSS, described, numbers
from selbench.figures.narrow import narrow
from selbench.figures.style import drawn
from selbench.statistics.intervals import mean_interval, seed_difference
from selbench.store import StudyStore
from selbench.tables.current import current_rows


@pytest.fixture
def figure(tmp_path):
    """Return a function that draws a figure from a store that it writes."""

    def draw(name, **facts):
        root = write(tmp_path / "runs", **facts).root
        return drawn(name, current_rows(StudyStore(root, "study")), "study")

    return draw


def test_maps_have_the_numbers_and_the_differences_from_alpha_0(figure):
    maps = figure("corruptions", seeds=1).axes
    assert [axes.get_title() for axes in maps] == ["alpha = -1", "alpha = 0", "alpha = 1"]
    values = maps[0].images[0].get_array()
    assert values.shape == (2, 2)  # fog and the mean; two severities
    assert np.allclose(values, 60)
    apart = figure("corruption-differences", seeds=1).axes
    assert [axes.get_title() for axes in apart] == ["alpha = -1", "alpha = 1"]
    assert {text.get_text() for text in apart[0].texts} == {"+10"}
    assert {text.get_text() for text in apart[1].texts} == {"-20"}


def test_differences_need_alpha_0(figure):
    with pytest.raises(UnmeasuredError, match="no corruptions of alpha = 0 and of other") as lacks:
        figure("corruption-differences", alphas=(1.0,))
    assert lacks.value.words == ("--suite", "corruptions", "--alpha", "-1,0,1")


def test_more_than_five_maps_go_on_below(figure):
    many = figure("corruptions", brought=[f"{n}.pth" for n in range(4)])
    assert len([axes for axes in many.axes if axes.axison]) == 7
    assert many.axes[5].get_position().y1 < many.axes[0].get_position().y0


def test_the_trade_off_has_dots_means_and_intervals(figure):
    (axes,) = figure("tradeoff", seeds=3).axes
    named = {line.get_label(): line for line in axes.lines}
    for alpha, (_, corrupted, adversarial) in ACCURACY.items():
        mean = named[f"{alpha:g}"]
        assert mean.get_xdata()[0] == pytest.approx(100 * adversarial + 1)
        assert mean.get_ydata()[0] == pytest.approx(100 * corrupted + 1)
    _, half = mean_interval([30.0, 31.0, 32.0])
    ends = axes.collections[0].get_segments()[0][:, 0]
    assert ends == pytest.approx([31 - half, 31 + half])


def test_the_relative_trade_off_divides_by_clean_accuracy(figure):
    (axes,) = figure("tradeoff-relative", seeds=1).axes
    means = {line.get_label(): line.get_xydata()[0] for line in axes.lines}
    for alpha, (clean, corrupted, adversarial) in ACCURACY.items():
        assert means[f"{alpha:g}"] == pytest.approx([adversarial / clean, corrupted / clean])


def test_the_trade_off_in_log_odds_is_beyond_clean(figure):
    (axes,) = figure("tradeoff-odds", seeds=1).axes
    means = {line.get_label(): line.get_xydata()[0] for line in axes.lines}
    for alpha, shares in ACCURACY.items():
        clean, corrupted, adversarial = (math.log(share / (1 - share)) for share in shares)
        assert means[f"{alpha:g}"] == pytest.approx([adversarial - clean, corrupted - clean])


def test_differences_from_alpha_0_have_intervals_over_seeds(figure):
    panels = figure("differences", seeds=3).axes
    assert [axes.get_title() for axes in panels[:2]] == ["clean", "under corruptions"]
    for axes, place in zip(panels, (0, 1, 2), strict=True):
        zero = ACCURACY[0.0][place]
        points = [line.get_xydata()[0].tolist() for line in axes.lines]
        assert points == [
            [at, pytest.approx(100 * (ACCURACY[alpha][place] - zero), abs=1e-9)]
            for at, alpha in enumerate((-1.0, 1.0))
        ]
        ends = [each.get_segments()[0][:, 1] for each in axes.collections[1:]]
        half = seed_difference([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]).high  # seeds differ by a point
        assert [high - low for low, high in ends] == pytest.approx([2 * half] * 2)
    alone = figure("differences", seeds=1)
    assert [len(axes.collections) for axes in alone.axes] == [1, 1, 1]
    assert "clean (accuracy above alpha = 0, points): alpha = -1: 0, alpha = 1: -71" in (
        described(alone)
    )
    with pytest.raises(UnmeasuredError, match="no accuracies of alpha = 0 and of other alphas"):
        figure("differences", alphas=(1.0,))


def test_the_relative_trade_off_of_nothing_right_is_refused(tmp_path):
    rows = current_rows(write(tmp_path / "runs"))
    rows.loc[rows["suite"] == "clean", "value"] = 0.0
    with pytest.raises(SelbenchError, match="no network of the study study has a clean image"):
        drawn("tradeoff-relative", rows, "study")


def test_figures_are_told_with_their_numbers(figure):
    maps = described(figure("corruption-differences", seeds=1))
    assert maps.startswith("study: accuracy under corruptions, points above that of alpha = 0. ")
    assert "alpha = -1: lowest 10 (fog, severity 1), highest 10 (fog, severity 1)." in maps
    points = described(figure("tradeoff", seeds=1))
    assert "alpha = -1: 30 and 60; alpha = 0: 40 and 50; alpha = 1: 60 and 30." in points
    curves = described(figure("attacks", seeds=1))
    words = "PGD, L2 (accuracy, %): on the left 9 to 80, on the right 30 to 60; farthest apart at"
    assert f"{words} 0: alpha = 0 80, alpha = 1 9." in curves


def test_dots_over_groups_are_told_by_their_means():
    figure = Figure()
    figure.suptitle("t")
    axes = figure.subplots()
    axes.plot([0, 0], [1, 2], "o")
    axes.plot([1], [5], "o")
    axes.set_xticks([0, 1], ["-1", "0"])
    axes.set_xlabel("alpha")
    axes.set_ylabel("ratio")
    assert described(figure) == "t. alpha = -1: 1.5, alpha = 0: 5."


def test_a_title_s_second_line_stays_apart_in_words_and_on_a_phone(figure):
    drawn = figure("attacks", seeds=1)
    drawn.suptitle("calibration\ndotted, another")
    assert described(drawn).startswith("calibration; dotted, another. ")
    assert narrow(drawn).get_suptitle() == "calibration\ndotted, another"


def test_brought_networks_have_colours_of_their_own_and_leave_panels_their_width(figure):
    def panel(names):
        (axes,) = figure("tradeoff", seeds=1, brought=names).axes
        made = axes.get_figure()
        made.draw_without_rendering()
        return axes, made.get_figwidth() * axes.get_position().width

    _, usual = panel(("a.pth",))
    axes, width = panel([f"cifar10-of-another-{n}-alpha=0-seed=1.safetensors" for n in range(8)])
    assert width > 0.85 * usual
    drawn = {line.get_label(): line.get_color() for line in axes.get_legend().get_lines()}
    assert len(drawn) == len(set(drawn.values())) == len(ACCURACY) + 8


def test_names_are_no_formulas(figure):
    import io

    name = "$\\frac$.pth"
    picture = figure("tradeoff", brought=[name])
    assert "tradeoff" in FIGURES
    picture.savefig(io.BytesIO())
    assert name in described(picture)


def test_numbers_are_those_of_the_lines_at_places_that_axes_name(figure):
    (panel,) = numbers(figure("tradeoff", seeds=1))
    assert panel.corner == "alpha"
    assert panel.rows == [("-1", ["30", "60"]), ("0", ["40", "50"]), ("1", ["60", "30"])]
    curves = numbers(figure("attacks", seeds=1))
    assert {each.title for each in curves} >= {"PGD, L2"}
    of_l2 = next(each for each in curves if each.title == "PGD, L2")
    assert dict(of_l2.rows)["0"] == ["80", "40", "40"]
    assert len(of_l2.columns) == 3
    assert numbers(figure("corruptions", seeds=1)) == []
    long = Figure()
    long.subplots().plot(range(100), range(100), label="a")
    (panel,) = numbers(long)
    assert len(panel.columns) == len(panel.rows[0][1]) <= ACROSS


def test_the_legend_of_a_phone_reads_by_lines():
    wide = Figure()
    axes = wide.subplots()
    for name in "abcdefgh":
        axes.plot([0, 1], label=name)
    axes.legend(title="alpha")
    tall = narrow(wide)
    tall.draw_without_rendering()
    texts = tall.axes[0].get_legend().get_texts()
    places = {each.get_text(): each.get_window_extent() for each in texts}
    read = sorted(places, key=lambda name: (-round(places[name].y0 / 8), places[name].x0))
    assert read == ["alpha", *"abcdefgh"]
