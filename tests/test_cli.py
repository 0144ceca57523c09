"""The command line: what it does, and that what the user can mend is one sentence and code 2."""

import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

import selbench as package
from corruptions import CORRUPTIONS
from selbench import engine, suites
from selbench.cli import app
from selbench.datasets import DATASETS, load_dataset
from selbench.datasets.dataset import make_split
from selbench.datasets.images import decode_images
from selbench.figures import FIGURES
from selbench.models import MODELS, build_model, load_weights
from selbench.progress import SILENT
from selbench.store import StudyStore
from selbench.study import ModelSpec, load_study, shipped_studies
from selbench.suites import SUITES
from selbench.tables import FORMATS
from selbench.training import accuracy
from selbench.training import run as training_run

TIMES = {"began", "seconds", "command", "evaluated"}  # of a manifest: they differ between runs


@pytest.fixture
def few_conditions(monkeypatch):
    """Shrink the suite of corruptions to four conditions, so that a run takes a moment."""
    chosen = {name: CORRUPTIONS[name] for name in ("gaussian_noise", "brightness")}
    monkeypatch.setattr(suites.corrupted, "CORRUPTIONS", chosen)
    monkeypatch.setattr(suites.corrupted, "SEVERITIES", (1, 5))


@pytest.fixture
def evaluated(monkeypatch):
    """Record the name and level of every condition that is evaluated."""
    seen = []
    genuine = engine.run_condition

    def recording(condition, *rest):
        seen.append((condition.name, condition.level))
        return genuine(condition, *rest)

    monkeypatch.setattr(engine, "run_condition", recording)
    return seen


def measurements(store="runs", study="tiny"):
    return pd.read_csv(Path(store) / study / "measurements.csv")


def manifest(store="runs", study="tiny"):
    return json.loads((Path(store) / study / "manifest.json").read_text())


# What commands do.


def test_version_is_the_package_s(selbench):
    assert selbench("--version").out == f"selbench {package.__version__}\n"


def test_every_command_has_a_help_text(selbench):
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert len(commands) == 7
    for command in commands:
        assert selbench(command, "--help").code == 0
        assert command in selbench("--help").out


def test_list_names_everything_registered(selbench):
    listed = {line.split()[0] for line in selbench("list").out.splitlines()}
    registered = {*shipped_studies(), *SUITES, *CORRUPTIONS, *MODELS, *DATASETS, *FIGURES}
    assert registered <= listed
    headings = {"studies", "models", "datasets", "suites", "figures"}
    assert listed - registered == headings


def test_list_describes_everything(selbench):
    lines = selbench("list").out.splitlines()
    assert all(len(line.split()) > 1 for line in lines if line.startswith(" "))


def test_run_prints_one_row_per_alpha_and_keeps_every_number(selbench, tiny_study):
    ended = selbench("run", tiny_study)
    assert ended.code == 0
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[:2] for row in rows if row[:1] in (["0"], ["1"])] == [["0", "1"], ["1", "1"]]
    kept = measurements()
    assert set(kept["subject"]) == {"alpha=0 seed=0", "alpha=1 seed=0"}
    assert set(kept["n"]) == {18}


def test_run_says_where_the_results_are(selbench, tiny_study):
    assert selbench("run", tiny_study, "--store", "kept").err.endswith("results in kept/tiny\n")


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


def test_another_seed_evaluates_only_what_is_new(selbench, tiny_study, evaluated):
    selbench("run", tiny_study)
    selbench("run", tiny_study, "--seed", "0,1")
    cells = measurements().groupby("subject").size()
    assert evaluated == [("clean", None)] * 2
    assert set(cells.index) == {f"alpha={a} seed={s}" for a in (0, 1) for s in (0, 1)}
    assert cells.nunique() == 1


def test_alpha_and_seed_replace_the_study_s(selbench, tiny_study):
    selbench("run", tiny_study, "--alpha", "-0.5,0.0", "--alpha", "1", "--seed", "3")
    subjects = {f"alpha={alpha} seed=3" for alpha in ("-0.5", "0", "1")}
    assert set(measurements()["subject"]) == subjects


def test_suites_add_up_and_none_is_evaluated_twice(selbench, tiny_study, evaluated):
    selbench("run", tiny_study, "--suite", "jacobian", "--suite", "clean", "--suite", "clean")
    assert set(measurements()["suite"]) == {"jacobian", "clean"}
    assert evaluated == [("clean", None)]


def test_limit_takes_so_many_test_images(selbench, tiny_study):
    selbench("run", tiny_study, "--limit", "9")
    kept = measurements()
    assert set(kept["n"]) == {9}
    assert set(kept["limit"]) == {9}
    outcomes = StudyStore(Path("runs"), "tiny").outcomes().to_pandas()
    assert set(outcomes.groupby(["key", "label"]).size()) == {3}  # of each of the three digits


def test_leaderboard_takes_all_images_unless_told_the_limit(selbench, tiny_study):
    selbench("run", tiny_study, "--limit", "9")
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


def test_trained_weights_are_those_that_run_evaluates(selbench, tiny_study):
    trained = {line.split("weights ")[1] for line in selbench("train", tiny_study).out.splitlines()}
    selbench("run", tiny_study)
    assert set(measurements()["weights"]) == trained


def test_manifest_tells_how_the_numbers_were_made(selbench, tiny_study):
    selbench("run", tiny_study, "--limit", "9")
    facts = manifest()
    assert facts["command"] == ["run", str(tiny_study), "--limit", "9"]
    assert facts["study"]["recipe"]["epochs"] == 2
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["versions"]["selbench"] == package.__version__
    assert set(facts["subjects"]) == set(measurements()["subject"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return where to keep one store that the tests of the formats share."""
    return tmp_path_factory.mktemp("finished") / "runs"


@pytest.fixture
def store(finished, selbench, tiny_study, few_conditions):
    """Return a store with the results of one study."""
    if not finished.exists():
        assert selbench("run", tiny_study, "--suite", "corruptions", "--store", finished).code == 0
    return finished


@pytest.mark.parametrize("name", ["table", *FORMATS])
def test_every_format_shows_every_alpha_and_is_the_same_twice(name, selbench, store):
    first = selbench("leaderboard", "--store", store, "--format", name)
    assert first.code == 0
    assert "tiny" in first.out
    assert selbench("leaderboard", "--store", store, "--format", name) == first


def test_formats_hold_the_same_numbers(selbench, store, tmp_path):
    def shown(name):
        return selbench("leaderboard", "tiny", "--store", store, "--format", name).out

    (tmp_path / "board.csv").write_text(shown("csv"))
    table = pd.read_csv("board.csv")
    rows = json.loads(shown("json"))[0]["rows"]
    assert list(table["alpha"]) == [row["alpha"] for row in rows] == [0, 1]
    for name in ("clean", "corrupted", "mce", "selectivity"):
        assert list(table[name]) == pytest.approx([row[name] for row in rows])
        digits = 3 if name == "selectivity" else 1
        factor = 1 if name == "selectivity" else 100
        for value in table[name]:
            for text in (shown("md"), shown("latex"), shown("table")):
                assert f"{value * factor:.{digits}f}" in text


def test_leaderboard_is_over_the_tidy_measurements(selbench, store):
    rows = json.loads(selbench("leaderboard", "--store", store, "--format", "json").out)[0]["rows"]
    accuracy = measurements(store).query("metric == 'accuracy' and alpha == 1")
    clean = accuracy.query("suite == 'clean'")["value"]
    corrupted = accuracy.query("suite == 'corruptions'").groupby("condition")["value"].mean()
    assert rows[1]["clean"] == pytest.approx(clean.item())
    assert rows[1]["corrupted"] == pytest.approx(corrupted.mean())


def test_suite_of_corruptions_is_the_benchmark(selbench, tiny_study):
    assert selbench("run", tiny_study, "--suite", "corruptions", "--limit", "3").code == 0
    kept = measurements().query("suite == 'corruptions'")
    conditions = set(zip(kept["condition"], kept["level"], strict=True))
    benchmark = [name for name, each in CORRUPTIONS.items() if not each.extra]
    assert conditions == {(name, level) for name in benchmark for level in range(1, 6)}
    assert len(conditions) == 75


# A user's own checkpoint.


@pytest.fixture
def checkpoint(tiny_study, tmp_path):
    """Save the weights of an untrained network of the study's architecture."""
    torch.manual_seed(1)
    study = load_study(str(tiny_study))
    model = build_model(study.model, 3, ((0, 0, 0), (1, 1, 1)))
    torch.save(model.network.state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def accuracy_with(network, mean, std, study):
    split = load_dataset(load_study(str(study)).dataset).test
    channels = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    logits = network.eval()((split.images / 255 - channels[0]) / channels[1])
    return (logits.argmax(1) == split.labels).double().mean().item()


@pytest.mark.parametrize("normalisation", ["given", "the training images'"])
def test_checkpoint_is_evaluated_instead_of_training(
    normalisation, selbench, tiny_study, checkpoint, monkeypatch
):
    monkeypatch.setattr(training_run, "train", None)
    study = load_study(str(tiny_study))
    network = build_model(study.model, 3, ((0, 0, 0), (1, 1, 1))).network
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    if normalisation == "given":
        options, moments = (
            ("--mean", "0.4,0.5,0.6", "--std", "0.1,0.2,0.9"),
            [
                (0.4, 0.5, 0.6),
                (0.1, 0.2, 0.9),
            ],
        )
    else:
        options, moments = (), load_dataset(study.dataset).moments
    assert selbench("run", tiny_study, "--checkpoint", checkpoint, *options).code == 0
    (kept,) = measurements().query("metric == 'accuracy'").to_dict("records")
    assert kept["subject"] == str(checkpoint)
    assert pd.isna(kept["alpha"])
    assert kept["value"] == accuracy_with(network, *moments, tiny_study)


def test_foreign_checkpoint_evaluates_as_published(
    selbench, tiny_study, edit, cifar10_test, test_data
):
    edit(tiny_study, 'name = "resnet8"\noptions = { width = 4 }', 'name = "resnet20"')
    words = ["run", tiny_study, "--data", cifar10_test, "--limit", "500"]
    words += ["--checkpoint", test_data / "weights" / "resnet20-cifar10.th"]
    words += ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    assert selbench(*words).code == 0
    (accuracy,) = measurements().query("metric == 'accuracy'")["value"]
    assert accuracy == pytest.approx(0.81, abs=0.03)  # 0.810 on all 10,000


# Interruptions.

CONDITIONS = [
    ("clean", None),
    ("gaussian_noise", 1),
    ("gaussian_noise", 5),
    ("brightness", 1),
    ("brightness", 5),
]  # after the analysis of selectivity, in this order
KILLED = """
import os, signal
from corruptions import CORRUPTIONS
from selbench import cli, store
from selbench.suites import corrupted
corrupted.CORRUPTIONS = {name: CORRUPTIONS[name] for name in ("gaussian_noise", "brightness")}
corrupted.SEVERITIES = (1, 5)
write, writes = store.StudyStore.write, []
def killing(*arguments):
    write(*arguments)
    writes.append(None)
    if len(writes) == 4:  # selectivity of two networks, clean, gaussian_noise 1
        os.kill(os.getpid(), signal.SIGKILL)
store.StudyStore.write = killing
cli.main()
"""


def test_killed_run_goes_on_to_the_same_numbers(
    selbench, tiny_study, few_conditions, evaluated, fresh_home, monkeypatch
):
    words = ["run", str(tiny_study), "--suite", "corruptions", "--store"]
    process = [sys.executable, "-c", KILLED, *words, "killed"]
    killed = subprocess.run(process, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(StudyStore(Path("killed"), "tiny").keys()) == 6
    assert not Path("killed/tiny/manifest.json").exists()

    assert selbench(*words, "killed").code == 0
    assert evaluated == CONDITIONS[2:]
    monkeypatch.setenv("SELBENCH_HOME", "another-home")
    assert selbench(*words, "whole").code == 0
    files = [Path(store, "tiny", "measurements.csv") for store in ("killed", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def interrupt_after(monkeypatch, owner, name):
    """Press Ctrl-C whenever the method `name` has done its work."""
    genuine = getattr(owner, name)

    def interrupted(*arguments):
        genuine(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("stage", [(training_run._Session, "keep"), (StudyStore, "write")])
def test_ctrl_c_ends_with_a_hint(stage, selbench, tiny_study, fresh_home, monkeypatch):
    interrupt_after(monkeypatch, *stage)
    ended = selbench("run", tiny_study, "--quiet")
    assert ended.code == 130
    assert ended.out == ""
    assert ended.err == "selbench: interrupted; the same command goes on where this one stopped\n"


def test_interrupted_training_goes_on_at_the_next_epoch_to_the_same_weights(
    selbench, tiny_study, fresh_home, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt_after(patch, training_run._Session, "keep")
        assert selbench("train", tiny_study).code == 130
    first_epochs = []
    genuine = training_run.train

    def recording(*arguments, first_epoch, **options):
        first_epochs.append(first_epoch)
        return genuine(*arguments, first_epoch=first_epoch, **options)

    monkeypatch.setattr(training_run, "train", recording)
    resumed = selbench("train", tiny_study)
    assert first_epochs == [2, 1]
    monkeypatch.setenv("SELBENCH_HOME", "another-home")
    assert selbench("train", tiny_study).out == resumed.out


# One table never mixes what is unlike.


def board(selbench):
    return {
        row["subject"]: row
        for row in json.loads(selbench("leaderboard", "--format", "json").out)[0]["rows"]
    }


def test_a_study_changed_without_changing_its_weights_is_evaluated_anew(selbench, tiny_study, edit):
    before = selbench("run", tiny_study).out
    edit(tiny_study, "width = 4", 'width = 4, shortcut = "A"')  # the default, said aloud
    assert selbench("run", tiny_study).out == before


def test_the_same_weights_brought_and_trained_have_a_row_each(selbench, tiny_study, shared_home):
    selbench("run", tiny_study, "--alpha", "0")
    (weights,) = set(measurements()["weights"])
    manifests = shared_home.glob("weights/*/manifest.json")
    trained = next(path for path in manifests if json.loads(path.read_text())["weights"] == weights)
    checkpoint = trained.with_name("weights.safetensors")
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    rows = board(selbench)
    assert set(rows) == {"0", str(checkpoint)}
    assert rows["0"]["clean"] == rows[str(checkpoint)]["clean"]


def test_two_checkpoints_of_one_file_name_have_a_row_each(selbench, tiny_study, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    for folder, factor in (("a", 1), ("b", -1)):
        Path(folder).mkdir()
        torch.save({name: factor * tensor for name, tensor in state.items()}, f"{folder}/same.pth")
    words = ["--checkpoint", "a/same.pth", "--checkpoint", "b/same.pth"]
    assert selbench("run", tiny_study, *words).code == 0
    assert set(board(selbench)) == {"a/same.pth", "b/same.pth"}


def test_a_checkpoint_that_changed_takes_the_place_of_what_it_was(selbench, tiny_study, checkpoint):
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    torch.save({name: -tensor for name, tensor in state.items()}, checkpoint)
    selbench("run", tiny_study, "--checkpoint", checkpoint)
    assert board(selbench)[str(checkpoint)]["networks"] == 1
    assert len(set(measurements()["weights"])) == 2


def test_a_checkpoint_with_a_normalisation_of_its_own_keeps_it(selbench, tiny_study, shared_home):
    selbench("train", tiny_study, "--alpha", "0")
    whole = next(shared_home.glob("weights/*/weights.safetensors"))
    words = ["--checkpoint", whole, "--mean", "0.1,0.2,0.3"]
    refused = selbench("run", tiny_study, *words)
    assert refused.code == 2
    assert "leave the normalisation to it" in refused.err


def test_images_without_constants_are_refused_before_training_until_a_scale_is_chosen(
    selbench, image_tree, tiny_study
):
    for path in Path("images").rglob("*.png"):
        Image.open(path).resize((32, 48)).save(path)
    refused = selbench("run", tiny_study, "--suite", "corruptions")
    assert refused.code == 2
    assert "gaussian_noise has no constants for images of 32 x 48 pixels; choose" in refused.err
    words = ("--suite", "corruptions", "--corruption", "fog, contrast", "--scale", "32")
    board = selbench("run", tiny_study, *words)
    assert board.code == 0
    assert "2 corruptions, with" in board.out
    assert "10 generated (constants of 32 pixels)" in " ".join(board.out.split())


def test_a_study_file_may_have_any_name(selbench, tiny_study):
    odd = tiny_study.rename(tiny_study.with_name("my study (2).toml"))
    assert selbench("run", odd).code == 0
    assert Path("runs/my-study-2/manifest.json").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--checkpoint", "x.pt", "--alpha", "1"], "--alpha and --seed train, --checkpoint does"),
        (["--device", "meta"], "only cpu and cuda are supported, not meta"),
        (["--seed", "99999999999999999999999"], "--seed takes whole numbers from 0 to 9223372036"),
    ],
)
def test_options_that_cannot_be_heeded_are_refused(selbench, tiny_study, words, sentence):
    refused = selbench("run", tiny_study, *words)
    assert refused.code == 2
    assert sentence in refused.err


@pytest.mark.parametrize("deviation", ["0,1,1", "-1,1,1", "nan,1,1"])
def test_a_deviation_that_is_none_is_refused(selbench, tiny_study, checkpoint, deviation):
    refused = selbench("run", tiny_study, "--checkpoint", checkpoint, "--std", deviation)
    assert refused.code == 2
    assert "--mean or --std of" in refused.err


def test_data_of_a_set_that_comes_along_is_refused(selbench):
    refused = selbench("run", "digits", "--data", "/nonexistent")
    assert refused.code == 2
    assert "digits come with scikit-learn" in refused.err


def test_every_file_of_cells_tells_how_it_was_made(selbench, tiny_study):
    selbench("run", tiny_study)
    for path in Path("runs").rglob("cells/*.json"):
        made = json.loads(path.read_text())["made"]
        assert made["command"] == ["run", str(tiny_study)]
        assert made["device"].startswith("cpu")
        assert set(made["versions"]) >= {"selbench", "torch"}


@pytest.mark.usefixtures("fresh_home")
def test_foreign_checkpoint_scores_81_percent_on_all_test_images(test_data, tmp_path):
    with tarfile.open(test_data / "cifar10-jpeg.tar.xz") as archive:
        members = [m for m in archive if m.name.startswith("test/") and m.isfile()]
        archive.extractall(tmp_path, members, filter="data")
    paths = sorted((tmp_path / "test").glob("*/*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    labels = torch.tensor([classes.index(path.parent.name) for path in paths])
    split = make_split(decode_images(paths, SILENT, "decode"), labels)
    moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = build_model(ModelSpec(name="resnet20"), 10, moments)
    load_weights(model, test_data / "weights" / "resnet20-cifar10.th")
    assert len(split) == 10_000
    assert accuracy(model, split) == pytest.approx(0.810, abs=0.001)
