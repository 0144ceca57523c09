"""Accuracies on the images that every network has right while they are clean."""

import shutil

import pytest
from studies import CONDITIONS, write_study

from selbench._kit.errors import SelbenchError
from selbench.store import StudyStore
from selbench.tables import leaderboard


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def row(board, subject):
    return board.table.set_index("subject").loc[subject]


def test_accuracies_are_over_the_images_that_all_have_right(root):
    # Of ten images the networks have the first 9, 8, 8 and 7 right; those 7 are the shared ones.
    board = leaderboard(write_study(root), shared=True)
    for subject in ("0", "1"):
        assert row(board, subject)["clean"] == 1
        assert row(board, subject)["images"] == 7
    # alpha = 0: 7 of 7 and, seed 1, 7 of 7 under noise 1; 6 and 5 under noise 2.
    assert row(board, "0")["gaussian_noise"] == pytest.approx((1 + 1 + 6 / 7 + 5 / 7) / 4)
    assert row(board, "1")["fog"] == pytest.approx((6 / 7 + 5 / 7 + 2 / 7 + 1 / 7) / 4)
    assert row(board, "1")["pgd_linf"] == pytest.approx((4 / 7 + 3 / 7 + 1 / 7 + 0) / 4)
    assert board.caption.startswith("7 test images that every network has right while they are ")


def test_a_lone_network_has_an_interval_over_these_images(root):
    store = write_study(root, seeds=(0,), alphas=(0, 3))  # they share 6 images
    found = row(leaderboard(store, shared=True), "0")
    every = row(leaderboard(store), "0")
    assert found["images"] == 6
    assert found["fog_interval"] > every["fog_interval"] > 0


@pytest.mark.soak
def test_studies_that_are_joined_share_images_too(root):
    one = write_study(root, "one", seeds=(0,), alphas=(0,))
    other = write_study(root, "other", seeds=(0,), alphas=(2,))
    board = leaderboard([one, other], shared=True)
    assert list(board.table["images"]) == [7, 7]
    assert row(board, "one: alpha=0")["gaussian_noise"] == pytest.approx((1 + 6 / 7) / 2)


def test_other_measurements_stay(root):
    conditions = CONDITIONS | {("selectivity", "clean", None): ("", 4)}
    store = write_study(root, conditions=conditions)
    shared, every = (row(leaderboard(store, shared=shared), "0") for shared in (True, False))
    assert shared["selectivity"] == every["selectivity"] == pytest.approx(0.35)


def test_tables_without_outcomes_are_refused(root):
    store = write_study(root)
    shutil.rmtree(store.folder / "cells")
    with pytest.raises(
        SelbenchError, match=r"does not hold the outcomes of .*; take the store of the run, not its"
    ):
        leaderboard(StudyStore(root, "study"), shared=True)


def test_a_network_without_its_clean_images_is_named(root):
    store = write_study(root, drop=("clean",))
    with pytest.raises(
        SelbenchError, match=r"holds no clean images of alpha=0 seed=0; run its study with --suite "
    ):
        leaderboard(store, shared=True)


def test_no_image_in_common_is_refused(root):
    store = write_study(root, alphas=(0, 9))
    with pytest.raises(SelbenchError, match=r"no clean image of .* by all 4 networks"):
        leaderboard(store, shared=True)


def test_images_from_disk_are_refused(root):
    store = write_study(root)
    manifest = store.manifest()
    manifest["data"] = "another"
    for facts in manifest["conditions"].values():
        facts[2] = "d"  # as for images that lie on disk
    store.finish(manifest)
    with pytest.raises(SelbenchError, match=r"was read from disk .*take --source generated"):
        leaderboard(StudyStore(root, "study"), shared=True)


def test_on_the_command_line(root, selbench):
    write_study(root)
    words = ["leaderboard", "study", "--store", root, "--format", "csv"]
    shared, every = selbench(*words, "--correct-on-all"), selbench(*words)
    assert shared.code == every.code == 0
    assert ",1.0,0.0,2," in shared.out  # clean accuracy, its interval and its number
    assert shared.out != every.out
