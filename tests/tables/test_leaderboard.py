"""Leaderboards: known answers from written cells, like with like, stable bytes."""

import json
import math
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from copied import written_once
from rich.console import Console
from studies import write_study

from selbench._kit.errors import SelbenchError
from selbench.store import Cell, Measurement, Result, StudyStore
from selbench.tables import leaderboard
from selbench.tables.formats import FORMATS, to_table

ERRORS = {  # of alpha 0 and alpha 1, per seed, by corruption and severity
    ("noise", "gaussian_noise", 1): {0: (0.1, 0.2), 1: (0.2, 0.4)},
    ("noise", "gaussian_noise", 2): {0: (0.3, 0.4), 1: (0.4, 0.6)},
    ("digital", "contrast", 1): {0: (0.2, 0.2), 1: (0.1, 0.1)},
}
CLEAN = {0: (0.05, 0.10), 1: (0.05, 0.15)}


def cell(suite, condition, level, group, alpha, seed, **changes):
    facts = {
        "suite": suite,
        "condition": condition,
        "level": level,
        "group": group,
        "source": "original" if suite == "clean" else "generated",
        "version": 1,
        "data": "d",
        "limit": None,
        "subject": f"alpha={alpha} seed={seed}",
        "alpha": None if alpha is None else float(alpha),
        "seed": seed,
        "training": "t",
        "architecture": "resnet8",
        "weights": f"w{alpha}-{seed}",
    }
    return Cell(**(facts | changes))


def manifest(**changes):
    conditions = {f"corruptions/{name}/{level}": ["generated", 1, ""] for _, name, level in ERRORS}
    conditions |= {
        "clean/clean": ["original", 1, ""],
        "selectivity/clean": ["generated", 1, ""],
        "corruptions/brightness/1": ["generated", 1, ""],
        "corruptions/frost/1": ["generated (procedural)", 1, ""],
    }
    subjects = {
        f"alpha={alpha} seed={seed}": {"weights": f"w{alpha}-{seed}", "diverged": False}
        for alpha in (-2, 0, 1, 2)
        for seed in (0, 1)
    }
    facts = {"data": "d", "training": "t", "conditions": conditions, "subjects": subjects}
    return facts | changes


def brought(name, weights="b"):
    """Describe a cell of a user's network, and what the manifest says of it."""
    facts = {"weights": weights, "training": "", "diverged": False}
    changes = {"subject": name, "training": "", "weights": weights}
    subjects = manifest()["subjects"] | {name: facts}
    return cell("clean", "clean", None, "", None, None, **changes), manifest(subjects=subjects)


def write(store, which, error, n=100):
    store.write([Result(which, [Measurement("accuracy", 1 - error, n)])])


@written_once
def filled(root, name):
    store = StudyStore(root, name)
    store.prepare()
    for alpha in (0, 1):
        for seed in (0, 1):
            write(store, cell("clean", "clean", None, "", alpha, seed), CLEAN[alpha][seed])
            for (group, name, level), errors in ERRORS.items():
                which = cell("corruptions", name, level, group, alpha, seed)
                write(store, which, errors[alpha][seed])
            index = Measurement("selectivity_index", 0.25 * (alpha + 1), 100)
            layer = Measurement("selectivity_index", 0.9, 100, layer=1)
            which = cell("selectivity", "clean", None, "", alpha, seed)
            store.write([Result(which, [index, layer])])
    store.finish(manifest())


@pytest.fixture
def store(tmp_path):
    return filled(tmp_path / "runs")


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """Return the board of a store, and that of another object for the same store."""
    store = filled(tmp_path_factory.mktemp("read") / "runs")
    return leaderboard(store), leaderboard(StudyStore(store.folder.parent, "study"))


@pytest.fixture(scope="module")
def board(boards):
    return boards[0]


def row(board, subject):
    return board.table.set_index("subject").loc[subject]


def test_numbers_are_those_of_the_definitions(board):
    one = row(board, "1")
    assert one["networks"] == 2
    assert one["selectivity"] == 0.5
    assert one["clean"] == pytest.approx(0.9)
    noise = [1 - (0.2 + 0.4) / 2, 1 - (0.4 + 0.6) / 2]  # severities first, then corruptions
    corrupted = [(n + 0.9) / 2 for n in noise]
    assert one["noise"] == pytest.approx(sum(noise) / 2)
    assert one["digital"] == pytest.approx(0.9)
    assert one["mca"] == pytest.approx(sum(corrupted) / 2)
    assert one["ratio"] == pytest.approx((corrupted[0] / 0.95 + corrupted[1] / 0.85) / 2)
    # Errors of the reference of the same seed: noise 0.2 and 0.3, contrast 0.2.
    assert one["mce"] == pytest.approx(((0.3 / 0.2 + 0.5) / 2 + (0.5 / 0.3 + 0.5) / 2) / 2)
    assert math.isnan(one["blur"])


def test_the_reference_has_mce_one(board):
    assert row(board, "0")["mce"] == pytest.approx(1)


def test_interval_is_students_over_seeds(board):
    one = row(board, "1")
    assert one["clean_interval"] == pytest.approx(
        12.7062 * 0.1 / math.sqrt(2) / math.sqrt(2), rel=1e-4
    )


def test_rows_rise_with_alpha_and_brought_networks_come_last(store):
    write(store, cell("clean", "clean", None, "", -2, 0), 0.3)
    which, listed = brought("mine.th")
    write(store, which, 0.2)
    store.finish(listed)
    board = leaderboard(store)
    assert board.table["subject"].tolist() == ["-2", "0", "1", "mine.th"]
    assert math.isnan(row(board, "mine.th")["clean_interval"])
    assert math.isnan(row(board, "-2")["mca"])


def test_networks_are_compared_on_the_conditions_they_have_in_common(store):
    write(store, cell("clean", "clean", None, "", 2, 0), 0.1)
    write(store, cell("corruptions", "contrast", 1, "digital", 2, 0), 0.5)
    board = leaderboard(store)
    assert row(board, "2")["mca"] == pytest.approx(0.5)
    assert row(board, "0")["mca"] == pytest.approx(0.8)
    assert "1 corruption, with their severities 1 generated" in board.caption


def test_other_data_and_other_trainings_are_left_out(store):
    other = {"data": "other", "weights": "x"}
    write(store, cell("clean", "clean", None, "", 3, 0, **other), 0.1)
    write(store, cell("clean", "clean", None, "", 4, 0, training="old", weights="y"), 0.1)
    assert leaderboard(store).table["subject"].tolist() == ["0", "1"]


def test_a_network_that_was_trained_anew_takes_the_place_of_the_old_one(store):
    write(store, cell("clean", "clean", None, "", 0, 0, weights="new"), 0.5)
    listed = manifest()
    listed["subjects"]["alpha=0 seed=0"]["weights"] = "new"
    store.finish(listed)
    zero = row(leaderboard(store), "0")
    assert zero["networks"] == 2
    assert zero["clean"] == pytest.approx((0.5 + 0.9) / 2)


def test_a_limit_without_results_is_refused(store):
    with pytest.raises(SelbenchError, match="no results on 7 test images; make them with"):
        leaderboard(store, limit=7)


@pytest.mark.parametrize("change", [{"source": "official"}, {"version": 2}])
@pytest.mark.sample
def test_another_source_or_version_of_a_condition_is_never_mixed_in(store, change):
    before = FORMATS["csv"]([leaderboard(store)])
    write(store, cell("corruptions", "contrast", 1, "digital", 0, 0, **change), 0.9)
    assert FORMATS["csv"]([leaderboard(store)]) == before


def test_a_store_without_current_cells_gives_an_empty_table(store):
    store.finish(manifest(data="new"))
    board = leaderboard(store)
    assert len(board.table) == 0
    assert "no accuracies yet" in FORMATS["md"]([board])


def test_only_one_number_of_test_images_enters_a_table(store):
    write(store, cell("clean", "clean", None, "", 0, 0, limit=10), 0.9, n=10)
    assert row(leaderboard(store), "0")["clean"] == pytest.approx(1 - (0.05 + 0.10) / 2)
    limited = leaderboard(store, limit=10)
    assert row(limited, "0")["clean"] == pytest.approx(0.1)
    assert limited.caption.startswith("10 test images")
    assert "--limit" not in limited.caption


@pytest.mark.parametrize("largest", [None, 12])
def test_results_with_another_limit_are_named_with_the_option_that_shows_them(tmp_path, largest):
    for limit in (largest, 5, 10):
        write_study(tmp_path, "one", limit=limit)
    board = leaderboard(StudyStore(tmp_path, "one"))
    assert (
        "; not shown: one on 5 test images (--limit 5 shows them), one on 10 test images (--limit "
        "10 shows them); " in board.caption
    )
    other = write_study(tmp_path, "other", limit=largest)
    joined = leaderboard([other, StudyStore(tmp_path, "one")])
    assert joined.caption.count("one on 5 test images") == 1
    assert "other on" not in joined.caption


def test_a_corruption_that_the_reference_masters_is_left_out_of_mce_and_named(store):
    for alpha, seed in ((0, 0), (0, 1), (1, 0), (1, 1)):
        write(store, cell("corruptions", "brightness", 1, "weather", alpha, seed), 0.1 * alpha)
    board = leaderboard(store)
    assert row(board, "0")["mce"] == pytest.approx(1)
    assert "not in mCE, since alpha = 0 makes no error: brightness" in board.caption


def test_diverged_networks_stand_in_the_caption(store):
    listed = manifest()
    listed["subjects"]["alpha=1 seed=0"]["diverged"] = True
    store.finish(listed)
    assert leaderboard(store).caption.endswith("diverged in training: alpha=1 seed=0.")


def test_sources_stand_in_the_caption(store):
    source = {"source": "generated (procedural)"}
    for alpha, seed in ((0, 0), (0, 1), (1, 0), (1, 1)):
        write(store, cell("corruptions", "frost", 1, "weather", alpha, seed, **source), 0.5)
    assert "3 generated, 1 generated (procedural)" in leaderboard(store).caption


def test_what_some_networks_lack_is_not_counted_and_named(store):
    before = row(leaderboard(store), "0")["mca"]
    source = {"source": "generated (procedural)"}
    write(store, cell("corruptions", "frost", 1, "weather", 0, 0, **source), 0.5)
    board = leaderboard(store)
    assert row(board, "0")["mca"] == before
    assert "not counted, since some networks lack them: frost" in board.caption


def test_networks_that_saw_no_corruption_are_named(store):
    write(store, cell("clean", "clean", None, "", -2, 0), 0.3)
    assert "not tested on corruptions: alpha=-2 seed=0" in leaderboard(store).caption


def test_mce_of_a_seed_without_its_reference_is_missing(store):
    for name, level in (("gaussian_noise", 1), ("gaussian_noise", 2), ("contrast", 1)):
        group = "digital" if name == "contrast" else "noise"
        write(store, cell("corruptions", name, level, group, 1, 7), 0.5)
    listed = manifest()
    listed["subjects"]["alpha=1 seed=7"] = {"weights": "w1-7", "diverged": False}
    before = row(leaderboard(store), "1")
    store.finish(listed)
    after = row(leaderboard(store), "1")
    assert after["networks"] == 3
    assert after["mce"] == before["mce"]
    assert after["mca"] != before["mca"]


def test_extra_corruptions_count_when_asked_for(store):
    for alpha, seed in ((0, 0), (0, 1), (1, 0), (1, 1)):
        which = cell("corruptions-extra", "saturate", 1, "digital", alpha, seed)
        write(store, which, 0.9)
    listed = manifest()
    listed["conditions"]["corruptions-extra/saturate/1"] = ["generated", 1, ""]
    store.finish(listed)
    assert row(leaderboard(store), "0")["digital"] == pytest.approx(0.8)
    assert row(leaderboard(store, extra=True), "0")["digital"] == pytest.approx((0.8 + 0.1) / 2)


def test_close_alphas_have_a_row_each(store):
    for alpha in (1.0000001, 1.0000002):
        name = f"alpha={alpha} seed=0"
        which = cell("clean", "clean", None, "", alpha, 0, subject=name, weights=name)
        write(store, which, 0.3)
        listed = store.manifest()
        listed["subjects"][name] = {"weights": name, "diverged": False}
        store.finish(listed)
    assert leaderboard(store).table["subject"].tolist() == ["0", "1", "1.0000001", "1.0000002"]


@pytest.mark.parametrize("format", FORMATS)
def test_equal_stores_give_equal_bytes(boards, format):
    first, second = boards
    assert FORMATS[format]([first]) == FORMATS[format]([second])


def test_markdown_shows_means_and_intervals(board):
    text = FORMATS["md"]([board])
    header, rule, zero, one = (line.split("|")[1:-1] for line in text.splitlines()[2:6])
    assert [head.strip() for head in header][:4] == ["alpha", "n", "selectivity", "clean %"]
    assert len(header) == len(rule) == len(zero) == len(one)
    assert zero[1].strip() == "2"
    assert one[3].strip() == "90.0 ± 63.5"


def test_csv_and_json_hold_full_numbers(board, tmp_path):
    (tmp_path / "board.csv").write_text(FORMATS["csv"]([board]))
    read = pd.read_csv(tmp_path / "board.csv")
    assert read["mca"].tolist() == pytest.approx(board.table["mca"].tolist(), rel=1e-12)
    (content,) = json.loads(FORMATS["json"]([board]))
    assert content["rows"][1]["clean"] == pytest.approx(0.9)
    assert content["rows"][1]["blur"] is None


def test_latex_escapes_what_latex_would_take_for_commands(store):
    which, listed = brought("my_net&50%.th")
    write(store, which, 0.2)
    store.finish(listed)
    text = FORMATS["latex"]([leaderboard(store)])
    assert r"my\_net\&50\%.th" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_terminal_table_fits_80_columns(board):
    console = Console(width=80, record=True, file=StringIO())
    console.print(to_table(board))
    text = console.export_text()
    assert "…" not in text
    assert "0.900" not in text
    assert "90.0 ± 63.5" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_caption_says_to_what_networks_without_a_seed_are_relative():
    results = Path(__file__).parents[2] / "results"
    caption = leaderboard(StudyStore(results, "cifar10-jpeg-methods")).caption
    words = "mCE relative to alpha = 0 of the same seed, of networks without a seed to its mean"
    assert words in caption
