"""`selbench.evaluate`: any network from Python, the numbers of the command line."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import selbench as package
from selbench._kit.errors import SelbenchError
from selbench.datasets import load_dataset
from selbench.models import build_model, load_weights
from selbench.networks.loading import network_of
from selbench.study import load_study

pytestmark = pytest.mark.long(8)


class Counting(nn.Module):
    """Keeps a count of its calls, and trains until it is told not to."""

    def __init__(self, outputs=3):
        super().__init__()
        self.calls = 0
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.head = nn.Linear(3, outputs)

    def forward(self, images):
        self.calls += 1
        return self.head(self.relu(self.norm(images)).mean((2, 3)))


class OnGpu(Counting):
    """Refuses images until it has been moved, as a network on a GPU refuses those of the CPU."""

    there = True

    def _apply(self, fn, recurse=True):
        self.there = False
        return super()._apply(fn, recurse)

    def forward(self, images):
        if self.there:
            raise RuntimeError("Input type (torch.FloatTensor) and weight type should be the same")
        return super().forward(images)


@pytest.fixture
def digits(tiny_study):
    return load_dataset(load_study(str(tiny_study)).dataset)


def test_measurements_are_those_of_the_command_line(
    selbench, tiny_study, checkpoint, few_conditions
):
    words = ["--checkpoint", checkpoint, "--suite", "corruptions", "--store", "theirs"]
    assert selbench("run", tiny_study, *words).code == 0
    expected = pd.read_csv("theirs/tiny/measurements.csv")
    study = load_study(str(tiny_study))
    data = load_dataset(study.dataset)
    network = build_model(study.model, 3, data.moments)
    load_weights(network, checkpoint)
    found = package.evaluate(network, data, name="mine", store="ours")
    facts = ["suite", "condition", "level", "metric", "layer", "n", "value"]
    pd.testing.assert_frame_equal(
        found[facts], expected[facts], check_dtype=False, check_column_type=False
    )
    assert set(found["subject"]) == {"mine"}
    written = pd.read_csv("ours/folder/measurements.csv")
    assert list(found) == list(written.dropna(axis="columns", how="all"))


def test_a_name_finds_the_data_and_the_store_is_optional():
    found = package.evaluate(Counting(10), "digits", "clean", limit=20)
    assert set(found["n"]) == {20}
    assert set(found["subject"]) == {"Counting"}
    assert not list(Path().iterdir())


def manifest(study):
    return json.loads(Path("runs", study, "manifest.json").read_text())


def test_a_shipped_data_set_that_is_loaded_is_of_the_study_of_its_name():
    data = load_dataset(load_study("digits").dataset)
    package.evaluate(Counting(10), "digits", "clean", store="runs", limit=20, name="one")
    named = manifest("digits")
    package.evaluate(Counting(10), data, "clean", store="runs", limit=20, name="two")
    loaded = manifest("digits")
    assert loaded["study"] == named["study"]
    assert loaded["training"] == named["training"]  # or trained networks were taken for stale
    assert set(loaded["subjects"]) == {"one", "two"}


def test_another_data_set_called_like_a_shipped_one_is_the_user_s_own(digits):
    package.evaluate(Counting(), replace(digits, name="digits"), "clean", store="runs")
    assert manifest("digits")["study"]["model"]["name"] == "brought"
    package.evaluate(Counting(), replace(digits, name="cifar10"), "clean", store="runs")  # absent
    assert manifest("cifar10")["study"]["model"]["name"] == "brought"


def test_only_what_was_asked_is_returned(digits, few_conditions):
    package.evaluate(Counting(), digits, "corruptions", store="runs")
    package.evaluate(Counting(), digits, "clean", store="runs", name="other")
    found = package.evaluate(
        Counting(), digits, "corruptions", store="runs", corruptions=["brightness"]
    )
    assert set(found["condition"]) == {"clean", "brightness"}
    assert set(found["subject"]) == {"Counting"}


def test_the_network_stays_as_it_is(digits):
    network = Counting().train()
    network.norm.eval()
    network.head.bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    package.evaluate(network, digits, ["clean", "gradients"], limit=6)
    assert network.training
    assert not network.norm.training
    assert network.calls == 0
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, False]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_a_network_on_a_gpu_is_probed_on_the_cpu(digits):
    network = OnGpu()
    found = package.evaluate(network, digits, "clean", limit=6)
    assert set(found["n"]) == {6}
    assert network.there  # it is the copy that is moved


def test_a_network_without_weights_is_refused(digits):
    with pytest.raises(SelbenchError, match=r"Counting cannot be copied \(.*meta.*state_dict"):
        package.evaluate(Counting().to("meta"), digits)


def test_the_same_network_is_evaluated_once(digits, monkeypatch):
    torch.manual_seed(0)
    network = Counting()
    first = package.evaluate(network, digits, "clean", store="runs")
    monkeypatch.setattr("selbench.suites.bench.run_condition", None)
    pd.testing.assert_frame_equal(package.evaluate(network, digits, "clean", store="runs"), first)
    with torch.no_grad():
        network.head.bias += 1
    with pytest.warns(RuntimeWarning, match="1 cell failed and is missing:\n.*TypeError"):
        package.evaluate(network, digits, "clean", store="runs")


class Inner(nn.Module):
    """Code that an outer network calls."""

    def forward(self, logits):
        return logits


class OtherInner(Inner):
    """The same `repr` where it is called Inner too, and other code."""

    def forward(self, logits):
        return logits.exp()


OtherInner.__name__ = "Inner"


class Tempered(nn.Module):
    """Divides logits by a number that is no weight."""

    def __init__(self, network, temperature=1.0, inner=Inner, **more):
        super().__init__()
        self.network, self.inner, self.temperature = network, inner(), temperature
        vars(self).update(more)

    def forward(self, images):
        return self.inner(self.network(images)) / self.temperature


def test_settings_and_the_code_of_inner_modules_tell_networks_apart(digits):
    def identity(*given, **more):
        whole = Tempered(deepcopy(network), *given, **more)  # it counts its calls
        return network_of(whole, "mine", digits).weights

    network = Counting()
    first = identity()
    assert identity() == first
    others = [identity(10.0), identity(1), identity(inner=OtherInner), identity(kind="a")]
    others += [identity(sizes=(1, 2)), identity(sizes=[1, 2]), identity(sizes=((1,), (2,)))]
    assert len({first, *others}) == 8
    assert identity(kept={}, made=object()) == first  # nothing that can be compared
    network.eval()
    assert identity() == first


def test_a_network_without_relus_is_left_out_of_selectivity_alone(digits, few_conditions):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), nn.GELU())
    with pytest.warns(RuntimeWarning, match=r"is left out of selectivity: .* no ReLU .*layers"):
        found = package.evaluate(network, digits)
    assert set(found["suite"]) == {"clean", "corruptions"}


def test_what_does_not_fit_is_refused(digits, tmp_path):
    with pytest.raises(
        SelbenchError, match="Counting has 4 outputs, the data set folder 3 classes"
    ):
        package.evaluate(Counting(4), digits)
    with pytest.raises(SelbenchError, match="unknown suite 'corruption'; did you mean"):
        package.evaluate(Counting(), digits, "corruption")
    with pytest.raises(SelbenchError, match="unknown dataset 'digit'; did you mean 'digits'"):
        package.evaluate(Counting(), "digit")
    with pytest.raises(SelbenchError, match="data is the folder of a named data set; leave it out"):
        package.evaluate(Counting(), digits, data=tmp_path)
    for limit in (0, -1):
        with pytest.raises(SelbenchError, match=f"at least 1, got {limit}$"):
            package.evaluate(Counting(), digits, "clean", limit=limit)
    network = Counting()
    network.kept = network.head.weight * 2
    with pytest.raises(SelbenchError, match=r"Counting cannot be copied \(.*state_dict"):
        package.evaluate(network, digits)


@pytest.fixture
def other_defaults():
    """Let torch make bfloat16 on another device, as a caller may want."""
    yield lambda: (torch.set_default_dtype(torch.bfloat16), torch.set_default_device("meta"))
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def test_other_defaults_of_torch_change_nothing(digits, other_defaults):
    network, suites = Counting(), ["clean", "attacks"]

    def found():
        rows = package.evaluate(network, digits, suites, limit=6, attacks="fgsm-linf")
        return rows.to_csv(), rows.attrs["findings"]

    expected = found()
    other_defaults()
    assert found() == expected
    assert torch.get_default_dtype() == torch.bfloat16


def test_attacks_are_made_of_bytes_and_those_of_others_counted(digits):
    images = digits.test.images[:6].permute(0, 2, 3, 1).flip(0).numpy()
    np.save("theirs.npy", images)
    asked = {"limit": 6, "attacks": "fgsm-linf", "pixels": "uint8", "adversarials": "theirs.npy"}
    found = package.evaluate(Counting(), digits, "attacks", **asked)
    assert {"fgsm-linf-uint8", "given-linf"} <= set(found["condition"])
    with pytest.raises(SelbenchError, match="pixels takes uint8"):
        package.evaluate(Counting(), digits, "attacks", pixels="uint16")
