"""The command line: what commands do and keep, and which options they refuse."""

from pathlib import Path

import pytest
import torch
from kept import manifest, measurements
from PIL import Image

import selbench as package
from corruptions import CORRUPTIONS
from selbench.commands.cli import app
from selbench.datasets import DATASETS
from selbench.figures import FIGURES
from selbench.models import MODELS
from selbench.store import StudyStore
from selbench.study import shipped_studies
from selbench.suites import METRICS, SUITES
from selbench.suites.pieces import Condition
from selbench.tables import COLUMNS
from selbench.tables.current import current_rows
from selbench.tables.curves import NAMES
from selbench.training import trained as training_run

pytestmark = pytest.mark.long(12)


def test_version_is_the_package_s(selbench):
    assert selbench("--version").out == f"selbench {package.__version__}\n"


def test_every_command_has_a_help_text(selbench):
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert {"run", "leaderboard", "check"} < set(commands)
    for command in commands:
        assert selbench(command, "--help").code == 0
        assert command in selbench("--help").out


def test_list_names_everything_registered(selbench):
    listed = {line.split()[0] for line in selbench("list").out.splitlines()}
    registered = {*shipped_studies(), *CORRUPTIONS, *COLUMNS}
    registered.update(SUITES, METRICS, MODELS, DATASETS, FIGURES)
    assert registered <= listed
    headings = {"studies", "models", "datasets", "suites", "figures", "columns", "metrics"}
    assert listed - registered == headings


def test_list_describes_everything(selbench):
    lines = selbench("list").out.splitlines()
    assert all(len(line.split()) > 1 for line in lines if line.startswith(" "))


def test_run_prints_one_row_per_alpha_and_keeps_every_number(ran):
    ended = ran("--seed", "0")
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[:2] for row in rows if row[:1] in (["0"], ["1"])] == [["0", "1"], ["1", "1"]]
    kept = measurements()
    assert set(kept["subject"]) == {"alpha=0 seed=0", "alpha=1 seed=0"}
    assert set(kept["n"]) == {18}


def test_run_says_where_the_results_are(selbench, tiny_study):
    assert "results in kept/tiny" in selbench("run", tiny_study, "--store", "kept").err


def test_second_run_evaluates_nothing_and_prints_the_same(
    selbench, tiny_study, few_conditions, evaluated, monkeypatch
):
    first = selbench("run", tiny_study, "--suite", "corruptions")
    assert len(evaluated) == 5
    evaluated.clear()
    monkeypatch.setattr(training_run, "train", None)  # no network is trained again either
    second = selbench("run", tiny_study, "--suite", "corruptions")
    assert evaluated == []
    assert second.out == first.out


@pytest.mark.soak
def test_another_seed_evaluates_only_what_is_new(selbench, tiny_study, evaluated):
    selbench("run", tiny_study)
    selbench("run", tiny_study, "--seed", "0,1")
    cells = measurements().groupby("subject").size()
    assert evaluated == [("clean", None)] * 2
    assert set(cells.index) == {f"alpha={a} seed={s}" for a in (0, 1) for s in (0, 1)}
    assert cells.nunique() == 1


@pytest.mark.soak
def test_alpha_and_seed_replace_the_study_s(selbench, tiny_study):
    selbench("run", tiny_study, "--alpha", "-0.5,0.0", "--alpha", "1", "--seed", "1")
    subjects = {f"alpha={alpha} seed=1" for alpha in ("-0.5", "0", "1")}
    assert set(measurements()["subject"]) == subjects


def test_the_first_seed_has_its_table_before_the_others_are_trained(selbench, tiny_study):
    words = ("run", tiny_study, "--alpha", "0", "--seed", "40,41")  # trained by no other test
    ended = selbench(*words)
    early, end = ended.err.split("this is seed 40; the table of all follows after 1 further seed\n")
    assert [line.split()[:2] for line in early.splitlines()].count(["0", "1"]) == 1
    assert "2 networks; 2 cells evaluated" in end
    assert "0" in [line.split()[0] for line in ended.out.splitlines() if line.split()[1:2] == ["2"]]
    again = selbench(*words)
    assert again.out == ended.out
    assert "this is seed" not in again.err  # all networks are trained


def test_failures_of_the_first_seed_are_not_said_to_be_earlier_ones(
    selbench, tiny_study, monkeypatch
):
    def broken(self, tasks, bench):
        raise RuntimeError("out of order")

    monkeypatch.setattr(Condition, "run", broken)
    ended = selbench("run", tiny_study, "--alpha", "0", "--seed", "0,1")
    assert ended.code == 3
    assert "2 cells failed and are missing:\n" in ended.err


def test_suites_add_up_and_none_is_evaluated_twice(selbench, tiny_study, evaluated):
    selbench("run", tiny_study, "--suite", "jacobian", "--suite", "clean", "--suite", "clean")
    assert set(measurements()["suite"]) == {"jacobian", "clean"}
    assert evaluated == [("clean", None)]


def test_limit_takes_so_many_test_images(ran):
    ran("--limit", "9")
    kept = measurements()
    assert set(kept["n"]) == {9}
    assert set(kept["limit"]) == {9}
    outcomes = StudyStore(Path("runs"), "tiny").outcomes().to_pandas()
    assert set(outcomes.groupby(["key", "label"]).size()) == {3}  # of each of the three digits


@pytest.mark.soak
def test_leaderboard_takes_all_images_unless_told_the_limit(ran, selbench, tiny_study):
    ran("--limit", "9")
    selbench("run", tiny_study)
    assert "18 test images" in selbench("leaderboard").out
    assert "9 test images" in selbench("leaderboard", "--limit", "9").out


def test_data_replaces_the_study_s_root(selbench, tiny_study, edit):
    Path("images").rename("elsewhere")
    edit(tiny_study, 'root = "images"\n', "")
    assert selbench("run", tiny_study, "--data", "elsewhere").code == 0


def test_train_trains_and_evaluates_nothing(selbench, tiny_study, evaluated):
    ended = selbench("train", tiny_study, "--quiet")
    assert [line.split("  ")[0] for line in ended.out.splitlines()] == [
        "alpha=0 seed=0",
        "alpha=1 seed=0",
    ]
    assert ended.err == ""
    assert evaluated == []
    assert not Path("runs").exists()


def test_trained_weights_are_those_that_run_evaluates(ran, selbench, tiny_study):
    trained = {line.split("weights ")[1] for line in selbench("train", tiny_study).out.splitlines()}
    ran("--seed", "0")
    assert set(measurements()["weights"]) == trained


def test_manifest_holds_the_request(selbench, tiny_study, checkpoint):
    words = ["--suite", "clean", "--limit", "6", "--checkpoint", checkpoint, "--data", "images"]
    assert selbench("run", tiny_study, *words, "--mean", "0,0,0", "--std", "1,1,1").code == 0
    assert manifest()["request"] == {
        "suites": ["clean"],
        "limit": 6,
        "corruptions": [],
        "attacks": [],
        "save": 0,
        "retry": False,
        "study": [str(tiny_study), "--data", "images"],
        "networks": ["--checkpoint", str(checkpoint), "--mean", "0,0,0", "--std", "1,1,1"],
    }


def test_manifest_tells_how_the_numbers_were_made(selbench, tiny_study):
    selbench("run", tiny_study, "--limit", "9")
    facts = manifest()
    assert facts["command"] == ["run", str(tiny_study), "--limit", "9"]
    assert facts["study"]["recipe"]["epochs"] == 2
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["versions"]["selbench"] == package.__version__
    assert set(facts["subjects"]) == set(measurements()["subject"])


def test_training_curves_are_kept_beside_the_measurements(ran):
    ran("--limit", "9")
    rows = current_rows(StudyStore(Path("runs"), manifest()["study"]["name"]))
    curves = rows[rows["suite"] == "training"].set_index(["subject", "metric", "level"])
    facts = manifest()["subjects"]["alpha=1 seed=0"]["curves"]
    assert [epoch["number"] for epoch in facts] == [1, 2]
    own = curves.loc["alpha=1 seed=0"]
    told = [epoch | {"dead": sum(epoch["dead"])} for epoch in facts]
    assert all(len(epoch["dead"]) == 7 for epoch in facts)  # layers
    for metric in ("cross_entropy", "selectivity", "accuracy", "dead"):
        assert own.loc[NAMES[metric], "value"].tolist() == [epoch[metric] for epoch in told]
    layers = own.loc[[(NAMES["index"], 1), (NAMES["index"], 2)]].dropna(subset="layer")
    assert layers["value"].tolist() == [n for epoch in facts for n in epoch["index"]]
    assert len(layers) == 2 * 7
    held_out = manifest()["study"]["dataset"]["validation"]
    for metric in ("accuracy", "dead"):
        assert own.loc[NAMES[metric], "n"].tolist() == [held_out, held_out]
    assert set(curves.loc["alpha=0 seed=0"].index.get_level_values("metric")) == {
        NAMES["cross_entropy"],
        NAMES["accuracy"],
        NAMES["index"],
        NAMES["dead"],
    }


def test_every_file_of_cells_tells_how_it_was_made(selbench, tiny_study):
    selbench("run", tiny_study)
    writers = [*StudyStore(Path("runs"), "tiny").written()]
    assert len(writers) == 1
    for made, files in writers:
        assert files > 0
        assert made["command"] == ["run", str(tiny_study)]
        assert made["device"].startswith("cpu")
        assert set(made["versions"]) >= {"selbench", "torch"}


@pytest.mark.soak
def test_suite_of_corruptions_is_the_benchmark(selbench, tiny_study):
    words = ("--alpha", "0", "--suite", "corruptions", "--limit", "3")
    assert selbench("run", tiny_study, *words).code == 0
    kept = measurements().query("suite == 'corruptions'")
    conditions = set(zip(kept["condition"], kept["level"], strict=True))
    benchmark = [name for name, each in CORRUPTIONS.items() if not each.extra]
    assert conditions == {(name, level) for name in benchmark for level in range(1, 6)}
    assert len(conditions) == 75


def test_a_study_file_may_have_any_name(selbench, tiny_study):
    odd = tiny_study.rename(tiny_study.with_name("my study (2).toml"))
    assert selbench("run", odd).code == 0
    assert Path("runs/my-study-2/manifest.json").is_file()


# Refusals.


@pytest.mark.soak
def test_images_without_constants_are_refused_before_training_until_a_scale_is_chosen(
    selbench, image_tree, tiny_study
):
    for path in Path("images").rglob("*.png"):
        Image.open(path).resize((32, 48)).save(path)
    refused = selbench("run", tiny_study, "--suite", "corruptions")
    assert refused.code == 2
    assert "has no constants for images of 32 x 48 pixels, only for 32, 64 and 224" in refused.err
    words = ("--suite", "corruptions", "--corruption", "fog, contrast", "--scale", "32")
    board = selbench("run", tiny_study, *words)
    assert board.code == 0
    assert "2 corruptions, with" in board.out
    assert "10 generated (constants of 32 pixels)" in " ".join(board.out.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--checkpoint", "x.pt", "--alpha", "1"],
            "--alpha and --seed are for training, --check",
        ),
        (["--device", "meta"], "only cpu and cuda are supported, not meta"),
        (["--seed", "99999999999999999999999"], "--seed takes whole numbers from 0 to 9223372036"),
    ],
)
def test_options_that_cannot_be_heeded_are_refused(selbench, tiny_study, words, sentence):
    refused = selbench("run", tiny_study, *words)
    assert refused.code == 2
    assert sentence in refused.err


def test_data_of_a_set_that_comes_along_is_refused(selbench):
    refused = selbench("run", "digits", "--data", "/nonexistent")
    assert refused.code == 2
    assert "digits come with scikit-learn" in refused.err
