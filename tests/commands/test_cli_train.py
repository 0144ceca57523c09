"""`selbench train --output`: copies of the weights, which are the networks again."""

import json

import pytest
import safetensors.torch
import torch
from kept import manifest, measurements

from selbench.training import trained as training_run

ONE = ("--alpha", "0", "--seed", "0")


@pytest.fixture
def trained(selbench, tiny_study, tmp_path):
    """Return a function that trains the tiny study, and returns the file that it wrote."""

    def train(*words):
        done = selbench("train", tiny_study, *ONE, "--output", tmp_path / "out", *words)
        assert done.code == 0
        (name,) = {line.split("  ")[0] for line in done.out.splitlines()}
        (path,) = (tmp_path / "out").iterdir()
        assert path.name == f"tiny-{name.replace(' ', '-')}.safetensors"
        return path

    return train


def accuracies():
    rows = measurements().query("metric == 'accuracy'")
    return rows.set_index("subject")["value"]


def test_a_copy_is_the_network_that_was_trained(selbench, tiny_study, trained):
    path = trained()
    assert selbench("run", tiny_study, *ONE).code == 0
    assert selbench("run", tiny_study, "--checkpoint", path).code == 0
    found = accuracies()
    assert found[str(path)] == found[found.index != str(path)].item()
    rows = measurements().query("metric == 'accuracy'")
    assert rows["weights"].nunique() == 1


def test_copies_of_one_network_are_the_same_bytes(trained):
    # eight, since an order that changes from time to time may be the same twice
    assert len({trained("--half").read_bytes() for _ in range(8)}) == 1


def test_half_a_copy_rounds_kernels_alone(trained):
    whole = safetensors.torch.load_file(trained())
    half = safetensors.torch.load_file(trained("--half"))
    assert half.keys() == whole.keys()
    for name, tensor in half.items():
        kernel = whole[name].ndim > 1
        assert tensor.dtype == (torch.float16 if kernel else whole[name].dtype)
        torch.testing.assert_close(tensor.to(whole[name].dtype), whole[name], rtol=1e-3, atol=1e-7)


@pytest.mark.soak
def test_a_copy_keeps_the_training_curves(selbench, tiny_study, trained):
    path = trained()
    assert selbench("run", tiny_study, *ONE).code == 0
    (whole,) = manifest()["subjects"].values()
    assert (
        selbench("run", tiny_study, *ONE, "--trained", path.parent, "--store", "copies").code == 0
    )
    (copied,) = manifest("copies")["subjects"].values()
    assert len(copied["curves"]) > 0
    assert copied == whole


@pytest.mark.parametrize(
    "curves",
    [
        "many",
        ["one"],
        [{"accuracy": 1}],
        [{"number": 1, "loss": 2}],
        [{"number": "x"}],
        [{"number": 1, "dead": [-1]}],
        [{"number": 1, "dead": "x"}],
    ],
)
@pytest.mark.sample
def test_a_copy_with_other_curves_is_refused(curves, refused, tiny_study, trained):
    path = trained()
    with safetensors.safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["selbench"])
    state = safetensors.torch.load_file(path)
    said = {"selbench": json.dumps(facts | {"curves": curves})}
    safetensors.torch.save_file(state, path, said)
    told = refused("run", tiny_study, *ONE, "--trained", path.parent)
    assert f"{path} lacks the alpha, seed and training that selbench" in told


@pytest.mark.soak
def test_a_tilde_is_the_home_folder(selbench, tiny_study, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert selbench("train", tiny_study, *ONE, "--output", "~/kept").code == 0
    assert selbench("run", tiny_study, *ONE, "--trained", "~/kept").code == 0
    drawn = selbench("figure", "training", "--output", "~/curves.svg")
    assert drawn.code == 0, drawn.err
    assert (tmp_path / "curves.svg").is_file()


def test_half_without_a_folder_is_refused(selbench, tiny_study):
    done = selbench("train", tiny_study, "--half")
    assert done.code == 2
    assert "--half needs --output FOLDER, which writes the copies; give both" in done.err


# --- taken instead of training ---


@pytest.mark.soak
def test_copies_are_taken_instead_of_training(selbench, tiny_study, trained, monkeypatch):
    path = trained("--half")
    expected = selbench("run", tiny_study, *ONE).out
    first = measurements().query("metric == 'accuracy'")
    monkeypatch.setenv("SELBENCH_HOME", str(path.parent.parent / "empty"))
    monkeypatch.setattr(training_run, "train", None)
    again = ("run", tiny_study, "--trained", path.parent, "--store", "other")
    assert selbench(*again).code == 0
    taken = measurements("other").query("metric == 'accuracy'")
    keys = ["subject", "alpha", "seed", "training"]
    assert taken[keys].values.tolist() == first[keys].values.tolist()
    assert taken["weights"].item() != first["weights"].item()  # rounded
    assert taken["value"].item() == pytest.approx(first["value"].item(), abs=0.05)
    assert "alpha" in expected


def test_copies_of_other_alphas_are_not_taken(selbench, tiny_study, trained):
    path = trained()
    done = selbench("run", tiny_study, "--trained", path.parent, "--alpha", "1")
    assert done.code == 2
    assert f"{path.parent} holds no weights (*.safetensors) of these alphas and seeds" in flat(done)


def test_copies_of_another_recipe_are_refused(selbench, tiny_study, trained, edit):
    path = trained()
    edit(tiny_study, "epochs = 2", "epochs = 3")
    done = selbench("run", tiny_study, "--trained", path.parent)
    assert done.code == 2
    assert f"{path} was trained by another recipe, architecture or data set than tiny's" in flat(
        done
    )


@pytest.mark.parametrize("said", [None, {"selbench": "[]"}, {"selbench": '{"alpha": 0}'}])
def test_weights_that_do_not_say_what_they_are_are_refused(selbench, tiny_study, trained, said):
    path = trained()
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, said)
    done = selbench("run", tiny_study, "--trained", path.parent)
    assert done.code == 2
    assert f"{path} lacks the alpha, seed and training that selbench train" in flat(done)


def test_a_study_has_one_kind_of_networks(selbench, tiny_study, trained):
    path = trained()
    done = selbench("run", tiny_study, "--trained", path.parent, "--checkpoint", path)
    assert done.code == 2
    assert "--trained uses a study's own networks; leave out --model and --checkpoint" in flat(done)


def flat(done):
    """Return what a command said, on one line."""
    return " ".join(done.err.split())
