"""Networks that return several outputs: which is taken, at every door."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import selbench
from selbench._kit.errors import SelbenchError
from selbench.datasets import Dataset
from selbench.datasets.dataset import make_split
from selbench.networks.described import NetworkSpec
from selbench.networks.loading import network_of
from selbench.pytest_plugin import assert_robust


class Giving(nn.Module):
    """Returns what `make` makes of logits and features."""

    def __init__(self, make):
        super().__init__()
        self.make = make
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.head = nn.Linear(12, 3)

    def forward(self, images):
        features = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        return self.make(self.head(features), features)


@dataclass
class Record:
    loss: object
    logits: torch.Tensor


Named = namedtuple("Named", ("logits", "aux"))
OBVIOUS = {
    "features beside": lambda y, f: (f, y),
    "one in a tuple": lambda y, f: (y.sum(), y),
    "a list": lambda y, f: [None, y],
    "the usual key": lambda y, f: {"aux": 2 * y, "logits": y},
    "a named tuple": lambda y, f: Named(y, 2 * y),
    "an ordered dict, as ModelOutput": lambda y, f: OrderedDict(logits=y, hidden=(f, f)),
    "a dataclass": lambda y, f: Record(None, y),
    "the only one, of another key": lambda y, f: {"out": y, "mask": f > 0},
}


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (9, 3, 8, 8), generator=generator, dtype=torch.uint8)
    split = make_split(images, torch.arange(9) % 3)
    return Dataset("three", ("a", "b", "c"), split, split)


@pytest.fixture
def plain(data):
    return network_of(Giving(lambda y, f: y), "net", data)


@pytest.mark.parametrize("what", OBVIOUS)
def test_the_obvious_logits_are_taken_and_said(what, data, plain):
    found = network_of(Giving(OBVIOUS[what]), "net", data)
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(found.load()(images), plain.load()(images))
    assert "is used as logits" in found.about
    assert found.weights != plain.weights


def test_a_key_chooses_and_is_part_of_what_the_network_is(data, plain):
    net, images = Giving(lambda y, f: {"a": y, "b": -y}), torch.rand(4, 3, 8, 8)
    one, other = (network_of(net, "net", data, NetworkSpec(logits=key)) for key in "ab")
    assert torch.equal(one.load()(images), -other.load()(images))
    assert len({one.weights, other.weights, plain.weights}) == 3


@pytest.mark.parametrize(
    ("make", "key", "message"),
    [
        (
            lambda y, f: (y, y),
            None,
            r"net returns several outputs that may be logits \(0, 1\); choose",
        ),
        (
            lambda y, f: {"logit": y},
            "logits",
            r"unknown output of net in --logits 'logits'; did you",
        ),
        (lambda y, f: y, "0", r"net returns one Tensor; leave --logits 0 out"),
        (lambda y, f: {"a": y, "f": f}, "f", r"net has 12 outputs, the data set three 3 classes"),
    ],
)
def test_what_is_not_obvious_or_not_there_is_refused(make, key, message, data):
    with pytest.raises(SelbenchError, match=message):
        network_of(Giving(make), "net", data, NetworkSpec(logits=key))


def test_evaluate_takes_what_the_command_line_says_of_a_network(data):
    several = Giving(lambda y, f: {"a": y, "b": -y})
    single = selbench.evaluate(Giving(lambda y, f: y), data, "clean")
    measured = partial(selbench.evaluate, suites="clean", dataset=data)
    assert np.array_equal(measured(several, logits="a")["value"], single["value"])
    normalised = measured(Giving(lambda y, f: y), mean=[0.5] * 3, std=(0.1,) * 3, input_size=4)
    assert len(normalised) == len(single)
    with pytest.raises(SelbenchError, match="weights is for a named network, such as"):
        measured(several, weights="x.pt")
    with pytest.raises(SelbenchError, match="unknown argument of evaluate 'logit'; did you mean"):
        measured(several, logit="a")


def test_a_network_of_several_outputs_is_checked_in_a_test(data, tmp_path):
    images, labels = data.test.images.repeat(3, 1, 1, 4), data.test.labels.repeat(3)
    images = nn.functional.interpolate(images, (32, 32))
    for update in (True, False):
        net = Giving(lambda y, f: {"a": y, "b": -y})
        report = assert_robust(
            net, (images, labels), tmp_path / "b.json", suites="clean", update=update, logits="b"
        )
    assert not report.failed
