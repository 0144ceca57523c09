"""Several studies in one table: what rows are called, what is refused, stable bytes."""

import json
import shutil

import pytest
from studies import CONDITIONS, write_study

from selbench._kit.errors import SelbenchError
from selbench.store import StudyStore
from selbench.tables import leaderboard
from selbench.tables.columns import COLUMNS
from selbench.tables.formats import FORMATS
from selbench.tables.ranking import arranged


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def subjects(board):
    return list(board.table["subject"])


def row(board, subject):
    return board.table.set_index("subject").loc[subject]


def test_a_table_of_one_study_is_that_of_its_store(root):
    store = write_study(root)
    joined, alone = leaderboard([store]), leaderboard(store)
    for render in FORMATS.values():
        assert render([joined]) == render([alone])


@pytest.mark.soak
def test_rows_carry_the_study_where_names_would_clash(root):
    one, other = write_study(root, "one"), write_study(root, "other", alphas=(0, 2))
    board = leaderboard([one, other])
    assert board.study == "one + other"
    assert list(board.table["study"]) == ["one", "one", "other", "other"]
    expected = ["one: alpha=0", "one: alpha=1", "other: alpha=0", "other: alpha=2"]
    assert subjects(board) == expected
    for name in FORMATS:
        text = FORMATS[name]([board])
        assert all(each in text for each in expected)
    assert "| network | n |" in FORMATS["md"]([board])


def test_rows_keep_their_names_where_none_clashes(root):
    own = write_study(root, "own", brought=["a.th"])
    foreign = write_study(root, "foreign", alphas=(), brought=["a.th", "b.th"])
    assert subjects(leaderboard([own, foreign])) == [
        "alpha=0",
        "alpha=1",
        "own: a.th",
        "b.th",
        "foreign: a.th",
    ]


def test_studies_of_one_name_are_told_by_their_folders(tmp_path):
    stores = [write_study(tmp_path / name, "same") for name in ("a", "b")]
    assert subjects(leaderboard(stores))[::2] == [f"{each.folder}: alpha=0" for each in stores]


def test_rows_have_the_numbers_of_their_own_studies(root):
    one, other = write_study(root, "one"), write_study(root, "other", seeds=(0, 1, 2), alphas=(2,))
    joined = leaderboard([one, other])
    for store, name, subject in ((one, "one: alpha=1", "1"), (other, "other: alpha=2", "2")):
        own, found = row(leaderboard(store), subject), row(joined, name)
        for column in COLUMNS:
            if column not in ("mce", "relative_mce"):
                assert found[column] == pytest.approx(own[column], nan_ok=True), column
                interval = f"{column}_interval"
                assert found[interval] == pytest.approx(own[interval], nan_ok=True)
        assert found["networks"] == own["networks"]


def test_one_reference_serves_all_studies(root):
    one, other = write_study(root, "one"), write_study(root, "other")
    board = leaderboard([one, other])
    # Errors of alpha 0 with seeds 0 and 1: noise 0.3 and 0.4, fog 0.5 and 0.6.
    assert row(board, "one: alpha=0")["mce"] == pytest.approx(1)
    assert row(board, "other: alpha=0")["mce"] == pytest.approx(1)  # relative to the mean
    assert row(board, "other: alpha=0")["mce_interval"] > 0
    assert "mCE relative to one: alpha=0 of the same seed, of other studies to its mean" in (
        board.caption
    )
    swapped = leaderboard([other, one])
    assert "relative to other: alpha=0" in swapped.caption
    named = leaderboard([one, other], reference="other: alpha=1")
    assert row(named, "other: alpha=1")["mce"] == pytest.approx(1)
    assert row(named, "other: alpha=1")["mce_interval"] == pytest.approx(0)
    assert row(named, "one: alpha=0")["mce"] < 1


def test_means_are_over_the_conditions_that_all_studies_share(root):
    fewer = {key: each for key, each in CONDITIONS.items() if key[1] != "fog"}
    one, other = write_study(root, "one"), write_study(root, "other", conditions=fewer)
    board = leaderboard([one, other])
    assert row(board, "one: alpha=0")["mca"] == pytest.approx(0.65)  # 0.7 and 0.6 by seed
    assert "1 corruption, with their severities 2 generated" in board.caption
    assert "not counted, since some networks lack them: fog" in board.caption
    assert row(board, "one: alpha=0")["fog"] == pytest.approx(0.45)
    assert row(board, "other: alpha=0")["fog_n"] == 0


@pytest.mark.soak
def test_corruptions_of_which_some_networks_lack_severities_are_named(root):
    fewer = {key: each for key, each in CONDITIONS.items() if key[1:] != ("fog", 2)}
    one, other = write_study(root, "one"), write_study(root, "other", conditions=fewer)
    board = leaderboard([one, other])
    assert "2 corruptions, with their severities 3 generated" in board.caption
    assert "only at severities that all networks have: fog (1 of 2)" in board.caption


def test_studies_without_a_common_corruption_say_so(root):
    def under(name):
        return {key: each for key, each in CONDITIONS.items() if key[1] in ("clean", name)}

    one = write_study(root, "one", conditions=under("fog"))
    other = write_study(root, "other", conditions=under("gaussian_noise"))
    board = leaderboard([one, other])
    assert board.table["mca"].isna().all()
    assert "not counted, since some networks lack them: fog, gaussian_noise" in board.caption


@pytest.mark.soak
def test_overlapping_rows_of_several_studies_share_a_rank(root):
    stores = [write_study(root, "one"), write_study(root, "other", alphas=(0, 7))]
    board = arranged(leaderboard(stores), ["clean"], "clean")
    assert subjects(board)[-1] == "other: alpha=7"
    assert list(board.table["rank"]) == [1, 1, 1, 1]  # two seeds: intervals of 12 deviations
    stores = [
        write_study(root / "more", "one", seeds=(0, 2, 4)),
        write_study(root / "more", "other", alphas=(7,), seeds=(0, 2, 4)),
    ]
    board = arranged(leaderboard(stores), ["clean"], "clean")
    assert subjects(board) == ["one: alpha=0", "one: alpha=1", "other: alpha=7"]
    assert list(board.table["rank"]) == [1, 2, 3]  # these seeds are alike


def test_what_diverged_is_named_with_its_study(root):
    one, other = write_study(root, "one"), write_study(root, "other")
    listed = other.manifest()
    listed["subjects"]["alpha=1 seed=0"]["diverged"] = True
    other.finish(listed)
    caption = leaderboard([one, other]).caption
    assert caption.endswith("diverged in training: other: alpha=1 seed=0.")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            {"data": "e"},
            r"their test images differ \(checksums d and e\); join studies of the same images",
        ),
        (
            {"limit": 5},
            r"they used different numbers of test images \(all and 5\); choose one that both have "
            "with --limit",
        ),
        (
            {"version": 2},
            r"attacks/pgd-linf/1 differs \(generated in version 1 of images d, and generated in "
            r"version 2 of images d\); run one of them again like the other",
        ),
        ({"source": "official"}, r"attacks/pgd-linf/1 differs \(.* and official in version 1 of"),
    ],
)
def test_studies_that_are_unlike_are_refused_and_both_named(root, change, difference):
    one, other = write_study(root, "one"), write_study(root, "other", **change)
    message = rf"^{one.folder} and {other.folder} cannot be in one table: {difference}"
    with pytest.raises(SelbenchError, match=message):
        leaderboard([one, other])


def test_a_limit_that_both_have_joins_them(root):
    one, other = write_study(root, "one"), write_study(root, "other", limit=5)
    write_study(root, "one", limit=5)
    assert len(leaderboard([one, other], limit=5).table) == 4


@pytest.mark.soak
def test_bytes_depend_on_content_alone(tmp_path):
    """Cells written in another order, by other runs, and read from measurements.csv."""
    forward = [write_study(tmp_path / "a", name, brought=["x.th"]) for name in ("one", "other")]
    halves = [dict(list(CONDITIONS.items())[part]) for part in (slice(4, 8), slice(4))]
    for name in ("other", "one"):
        for part in halves:
            backward = write_study(tmp_path / "b", name, brought=["x.th"], conditions=part)
        backward.finish(forward[0 if name == "one" else 1].manifest())
    again = [StudyStore(tmp_path / "b", name) for name in ("one", "other")]
    first, second = leaderboard(forward), leaderboard(again)
    for name, render in FORMATS.items():
        assert render([first]) == render([second]), name


def test_the_command_joins_places(root, selbench, monkeypatch):
    monkeypatch.chdir(root.parent)
    write_study(root, "one")
    write_study(root, "other", alphas=(2,))
    both = json.loads(selbench("leaderboard", "--format", "json").out)
    assert [each["study"] for each in both] == ["one", "other"]
    (joined,) = json.loads(selbench("leaderboard", "one", "other", "--format", "json").out)
    rows = ["one: alpha=0", "one: alpha=1", "other: alpha=2"]
    assert [each["subject"] for each in joined["rows"]] == rows
    asked = selbench("leaderboard", "--join", "--format", "json").out
    assert json.loads(asked) == [joined]
    shutil.move(root / "other", "results")
    moved = selbench("leaderboard", "runs", "./results", "--format", "csv").out
    assert [line.split(",")[:2] for line in moved.splitlines()[1:]] == [
        ["one", "one: alpha=0"],
        ["one", "one: alpha=1"],
        ["results", "results: alpha=2"],
    ]
    changed = selbench(
        "leaderboard", "--join", "runs", "results", "--reference", "results: alpha=2"
    )
    assert "mCE relative to results: alpha=2 of the same seed" in " ".join(changed.out.split())


@pytest.mark.soak
def test_the_terminal_shows_a_joined_table_in_80_columns(root, selbench):
    index = {("selectivity", "clean", None): ("", 3)}
    write_study(root, "one", conditions=CONDITIONS | index)
    write_study(root, "a-longer-one", conditions=CONDITIONS | index)
    out = selbench("leaderboard", "--join", "--store", root).out
    assert "one: alpha=0 2 " in out
    assert "a-longer-one: alpha=1 2 " in out  # whole, in one line
    assert "a-longer-one + one: selectivity" in out
    assert max(map(len, out.splitlines())) <= 80


def test_rows_are_told_apart_by_values_not_by_looks(root):
    """A brought network called "1" is no network of alpha = 1."""
    board = leaderboard(write_study(root, alphas=(1,), brought=["1"]))
    assert subjects(board) == ["1", "1"]
    assert list(board.table["networks"]) == [2, 1]


def test_images_are_counted_even_where_a_network_has_none(root):
    one = write_study(root, "one")
    other = write_study(root, "other", conditions={("selectivity", "clean", None): ("", 5)})
    board = leaderboard([one, other])
    text = FORMATS["csv"]([board])
    assert "one: alpha=0,0.0,2,10," in text
    assert "other: alpha=0,0.0,2,," in text
    store = write_study(root, "few", limit=10)
    assert leaderboard(store).runs == (f"selbench run few --limit 10 --store {root}",)
