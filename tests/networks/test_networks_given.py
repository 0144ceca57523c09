"""Networks from Python: scripts, programs and wrapped ones; what tells one from another."""

import sys
import warnings
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from torch import nn

import selbench as package
from selbench._kit.errors import SelbenchError
from selbench.datasets import load_dataset
from selbench.networks.described import NetworkSpec
from selbench.networks.loading import bring, network_of
from selbench.networks.modules import module_of
from selbench.pytest_plugin import assert_robust
from selbench.study import load_study

pytestmark = pytest.mark.long(12)

SCALE = 1.0


class Small(nn.Module):
    """A network of three classes that normalises by a number, which may be kept anywhere."""

    def __init__(self, mean=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.mean = mean

    def forward(self, images):
        return self.head(self.conv(images - self.mean).relu().mean((2, 3)))


class Saved(Small):
    def __init__(self, mean, saved=True):
        super().__init__()
        del self.mean
        self.register_buffer("mean", torch.tensor(mean), persistent=saved)


class Called(Small):
    """Normalises by a function."""

    def forward(self, images):
        return super().forward(self.mean(images))


class Scaled(Small):
    def forward(self, images):
        return super().forward(images) * SCALE


@pytest.fixture
def digits(tiny_study):
    return load_dataset(load_study(str(tiny_study)).dataset)


def shifted(by):
    return lambda images: images - by


def hooked(by):
    network = Small()
    network.register_forward_pre_hook(lambda module, given: (given[0] - by,))
    return network


MAKERS = {
    "a number": Small,
    "a tensor": lambda by: Small(torch.tensor(by)),
    "an array": lambda by: Small(torch.tensor(by).numpy()),
    "a buffer": Saved,
    "a buffer that is not saved": lambda by: Saved(by, saved=False),
    "a function": lambda by: Called(shifted(by)),
    "a hook": hooked,
    "a mapping": lambda by: Small({"of": by}),
    "another module": lambda by: Small(nn.Threshold(by, by)),
    "a script": lambda by: frozen(Small(by)),
    "a program": lambda by: exported(Small(by)),
}


def frozen(network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.freeze(torch.jit.script(network.eval()))


def exported(network):
    batch = torch.export.Dim("batch")
    images = (torch.rand(3, 3, 32, 32),)
    return torch.export.export(network.eval(), images, dynamic_shapes=({0: batch},)).module()


@pytest.mark.parametrize(
    "what",
    [*sorted(MAKERS.keys() - {"a program"}), pytest.param("a program", marks=pytest.mark.soak)],
)
def test_two_normalisations_are_two_networks(what, digits, monkeypatch):
    monkeypatch.setattr("selbench.networks.loading.probe", lambda *given: torch.zeros(2, 3))
    make = MAKERS[what]
    one, again, other = (network_of(module_of(make(by)), "net", digits) for by in (0.25, 0.25, 0.5))
    assert one.weights == again.weights != other.weights
    assert one.about == again.about != other.about


def test_numbers_of_the_module_that_a_network_names_are_part_of_it(digits, monkeypatch):
    before = network_of(Scaled(), "net", digits).weights
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert network_of(Scaled(), "net", digits).weights != before


def accuracy(found):
    (value,) = found.query("metric == 'accuracy'")["value"]
    return value


@pytest.mark.soak
def test_neither_of_two_normalisations_replaces_the_other(digits):
    kept = {}
    for by in (0.25, 0.5, 0.25, 0.5):
        found = package.evaluate(Small(by), digits, "clean", store="runs")
        (name,) = set(found["subject"])
        assert kept.setdefault(name, by) == by
    assert len(kept) == 2
    assert set(pd.read_csv("runs/folder/measurements.csv")["subject"]) == {*kept}
    leaderboard = pd.read_json("runs/folder/manifest.json", typ="series")["subjects"]
    assert set(leaderboard) == {*kept}


def test_one_that_is_trained_further_keeps_its_name(digits):
    network = Small()
    package.evaluate(network, digits, "clean", store="runs")
    with torch.no_grad():
        network.head.bias += 1
    assert set(package.evaluate(network, digits, "clean", store="runs")["subject"]) == {"Small"}


@pytest.mark.soak
def test_two_normalisations_of_the_command_line_are_two_networks(selbench, tiny_study, checkpoint):
    words = ["run", tiny_study, "--checkpoint", checkpoint, "--suite", "clean", "--mean"]
    assert selbench(*words, "0.1,0.1,0.1").code == 0
    assert selbench(*words, "0.2,0.2,0.2").code == 0
    names = set(pd.read_csv("runs/tiny/measurements.csv")["subject"])
    assert len(names) == 2
    assert str(checkpoint) in names
    assert any("[mean 0.2,0.2,0.2" in name for name in names)


def quantised(network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)


def program(network):
    batch = torch.export.Dim("batch")
    images = (torch.rand(3, 3, 32, 32),)
    return torch.export.export(network.eval(), images, dynamic_shapes=({0: batch},))


def scripted(network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(network)


KINDS = {
    "a script": scripted,
    "a frozen script": frozen,
    "a program": program,
    "its module": exported,
    "parallel": nn.DataParallel,
    "compiled": torch.compile,
    "quantised": quantised,
}


LATER = ("a frozen script", "its module", "parallel", "compiled")  # made as the others are


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.soak] * (kind in LATER)) for kind in KINDS]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_kind_of_network_has_the_same_numbers(kind, digits, monkeypatch):
    images, labels = digits.test.images / 255, digits.test.labels
    expected = (Small().eval()(images).argmax(1) == labels).double().mean().item()
    given = KINDS[kind](Small())
    assert accuracy(package.evaluate(given, digits, "clean")) == pytest.approx(expected, abs=0.06)
    assert_robust(given, digits, "b.json", update=True, suites=["clean"])
    assert not assert_robust(Small(), digits, "b.json", suites=["clean"], tolerance=0.1).failed
    module = ModuleType("kinds_of_networks")
    module.make = lambda: given
    monkeypatch.setitem(sys.modules, "kinds_of_networks", module)
    brought = bring(NetworkSpec(spec="kinds_of_networks:make"), None, digits)
    images = digits.test.images[:4] / 255
    assert torch.allclose(brought.load()(images), Small()(images), atol=0.02)


def test_words_of_the_command_line_name_networks(digits, tmp_path):
    torch.save(Small().state_dict(), tmp_path / "mine.pth")
    Path("nets.py").write_text(
        "from torch import nn\n\n\ndef three():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))\n"
    )
    found = package.evaluate("nets.py:three", digits, "clean")
    assert set(found["subject"]) == {"nets.py:three"}
    spec = NetworkSpec(spec="nets.py:three", mean=(0.5,) * 3)
    assert set(package.evaluate(spec, digits, "clean", name="mine")["subject"]) == {"mine"}


NONE = {
    "a class": (Small, r"got the class Small; make one of it: Small\(...\)"),
    "a function": (shifted, "got the function shifted; call it where it builds the network"),
    "a path": (Path("mine.pth"), "got the path mine.pth; build the network, and load the file"),
    "a name of a file": ("mine.pth", "mine.pth is a file, not a network; name its network"),
    "a name": ("resnet18", "'resnet18' names no network; say KIND:NAME"),
    "weights": (Small().state_dict(), "got a mapping, such as a state dict; load it into its"),
    "several": ([Small(), Small()], "got 2 of them in a list; give one at a time"),
    "nothing": (
        None,
        "got a NoneType; wrap the function from images to logits in a torch.nn.Module",
    ),
}


@pytest.mark.parametrize("what", NONE)
def test_what_is_no_network_is_refused(what, digits):
    model, message = NONE[what]
    with pytest.raises(SelbenchError, match=message):
        package.evaluate(model, digits)


def test_misuse_of_the_other_arguments_is_refused(digits):
    wrong = {
        "limit": [True, 2.5, "9"],
        "suites": [3, [None]],
        "corruptions": [["fog", 1]],
        "attacks": [5],
        "dataset": [Path("images"), 7],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(SelbenchError, match=f"^(data|{name}) is "):
                package.evaluate(Small(), **{"dataset": digits, name: value})
    with pytest.raises(SelbenchError, match="unknown corruption 'fogg'; did you mean 'fog'"):
        package.evaluate(Small(), digits, corruptions="fogg")


def test_images_with_labels_are_evaluated(digits):
    expected = accuracy(package.evaluate(Small(), digits, "clean"))
    pair = (digits.test.images / 255, digits.test.labels.int())
    found = package.evaluate(Small(), pair, "clean", store="runs")
    assert accuracy(found) == expected
    (study,) = (path.name for path in Path("runs").iterdir() if path.is_dir())
    assert study.startswith("data-")
