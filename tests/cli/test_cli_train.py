"""`selbench train --output`: copies of the weights, which are the networks again."""

import pytest
import safetensors.torch
import torch
from kept import measurements

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


def test_half_a_copy_rounds_kernels_alone(trained):
    whole = safetensors.torch.load_file(trained())
    half = safetensors.torch.load_file(trained("--half"))
    assert half.keys() == whole.keys()
    for name, tensor in half.items():
        kernel = whole[name].ndim > 1
        assert tensor.dtype == (torch.float16 if kernel else whole[name].dtype)
        torch.testing.assert_close(tensor.to(whole[name].dtype), whole[name], rtol=1e-3, atol=1e-7)


def test_half_without_a_folder_is_refused(selbench, tiny_study):
    done = selbench("train", tiny_study, "--half")
    assert done.code == 2
    assert "--half is of the copies that --output FOLDER writes; give it too" in done.err
