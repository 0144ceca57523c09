"""The oracle beside published outputs, and selbench beside the oracle as a network sees them."""

from dataclasses import dataclass

import numpy as np
import pytest
from agreement import foreign_network, predictions, real_images, versions
from looks import look, standard_errors
from numpy.random import RandomState
from oracle import ORACLE, Array, corrupted

from corruptions import CORRUPTIONS

FILES = {32: "cifar10-c", 64: "tiny-imagenet-c", 224: "imagenet-c"}
UNSEEDED = "impulse_noise"  # its published draws come from a generator without a seed
# The share of equal values, at every severity; the others differ by one level. Everything is equal
# but with sigma 0.5, where exp(-2) was one bit smaller on the machine that made the files: there
# some even areas lie a level higher.
NEARLY_EQUAL = {("gaussian_blur", 64): 0.995, ("glass_blur", 64): 0.996}
SEVERITIES = range(1, 6)

# All severities take minutes; one tells what is wrong too, if less surely.
PARTS = {"one": ((3,), ()), "all": (SEVERITIES, pytest.mark.soak)}

each_part = pytest.mark.parametrize(
    "severities",
    [pytest.param(each, id=part, marks=marks) for part, (each, marks) in PARTS.items()],
)


@pytest.fixture
def golden(test_data, monkeypatch):
    monkeypatch.setenv("SELBENCH_FROST", str(test_data / "frost"))
    return lambda size: np.load(test_data / "golden" / f"{FILES[size]}.npz")


def test_oracle_has_every_corruption_of_the_benchmark():
    benchmark = {name for name, each in CORRUPTIONS.items() if not each.extra}
    assert benchmark < set(ORACLE) <= set(CORRUPTIONS)


@each_part
@pytest.mark.parametrize("size", FILES)
@pytest.mark.parametrize("name", sorted(ORACLE.keys() - {UNSEEDED}))
@pytest.mark.sample("name")
def test_oracle_makes_the_published_images(golden, name, size, severities):
    clean, published = golden(size)["clean"], golden(size)[name]
    for severity in severities:
        made = [corrupted(image, name, severity, RandomState(i)) for i, image in enumerate(clean)]
        apart = np.stack(made).astype(int) - published[severity - 1]
        assert abs(apart).max() <= ((name, size) in NEARLY_EQUAL)
        assert (apart == 0).mean() >= NEARLY_EQUAL.get((name, size), 1)


@each_part
@pytest.mark.parametrize("size", FILES)
def test_oracle_hits_as_many_values_as_published_with_impulses(golden, size, severities):
    clean, published = golden(size)["clean"], golden(size)[UNSEEDED]
    for severity in severities:
        random = RandomState(severity)
        made = np.stack([corrupted(image, UNSEEDED, severity, random) for image in clean])
        for extreme in (0, 255):
            hit = [(out == extreme)[clean != extreme] for out in (made, published[severity - 1])]
            error = np.sqrt((hit[0].var() + hit[1].var()) / hit[0].size)
            assert abs(hit[0].mean() - hit[1].mean()) < 4 * error


@dataclass(frozen=True)
class Case:
    """Real images under one corruption; each severity has images of its own."""

    random: bool
    clean: Array  # (severities, images, side, side, channels)
    labels: Array  # (severities, images)
    ours: Array
    theirs: Array


@pytest.fixture(scope="module")
def photographs(test_data):
    images, labels = real_images(test_data, 15 * 5)
    return images.reshape(5, 150, 32, 32, 3), labels.reshape(5, 150)


# Those without draws are compared to the last level with the published images already.
CASES = [
    pytest.param(
        (name, severities),
        id=f"{name}-{part}",
        marks=marks if CORRUPTIONS[name].random else pytest.mark.soak,
    )
    for name in ORACLE
    for part, (severities, marks) in PARTS.items()
]


@pytest.fixture(scope="module", params=CASES)
def case(request, photographs, test_data):
    name, severities = request.param
    clean, labels = (part[[severity - 1 for severity in severities]] for part in photographs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELBENCH_FROST", str(test_data / "frost"))
        made = [
            versions(images, name, severity, draw=0)
            for images, severity in zip(clean, severities, strict=True)
        ]
    ours, theirs = map(np.stack, zip(*made, strict=True))
    return Case(CORRUPTIONS[name].random, clean, labels, ours, theirs)


# Draws of one distribution differ by chance: one of these 440 means of 150 images is 5 standard
# errors off in every 4,000th choice of seeds. Wrong constants or arithmetic are further off: those
# of the severity beside it 11 or more; of 250 images rows for columns 20 or more, BGR for RGB 9.
@pytest.mark.sample
def test_images_look_alike(case):
    if not case.random:
        apart = abs(case.ours.astype(int) - case.theirs)
        assert apart.max() <= 1
        assert (apart == 0).mean() > 0.99
        return
    ours, theirs = look(case.ours, case.clean), look(case.theirs, case.clean)
    assert standard_errors(ours - theirs).max() < 5


@pytest.fixture(scope="module")
def network(test_data):
    return foreign_network(test_data)


# `python tests/corruptions/agreement.py` shows that all 95 accuracies on 2,000 images agree within
# 1.5 percentage points. Here are 150 images for each, for want of time: pooled over a random
# corruption's severities, the standard error of the difference is 1.2 to 1.8 points. With the
# constants of the severity beside it 12 of the 19 fail here, and all 19 in how they look.
@pytest.mark.soak
def test_accuracy_agrees(case, network):
    gained = gains(case, network)
    if case.random:
        assert standard_errors(gained.reshape(1, -1)) < 3.5
    else:
        assert abs(gained.mean(axis=1)).max() <= 0.015


def gains(case, network):
    """Return for each image 1 where only ours leaves the network right, -1 where only theirs."""
    apart = (case.ours != case.theirs).any(axis=(2, 3, 4))  # it need not look at what is equal
    gained = np.zeros(apart.shape)
    if apart.any():
        right = [
            predictions(network, version[apart]) == case.labels[apart]
            for version in (case.ours, case.theirs)
        ]
        gained[apart] = right[0].astype(int) - right[1]
    return gained
