"""Misuse of the public analyses: one sentence each, before anything is computed."""

import inspect

import pytest
import torch
from torch import nn

import selbench
from selbench._kit.errors import SelbenchError

MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
IMAGES, LABELS = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
GOOD = {
    "model": MODEL,
    "images": IMAGES,
    "perturbed": 1 - IMAGES,
    "labels": LABELS,
    "units": torch.rand(6, 4),
    "classes": 3,
    "rotations": 2,
    "generator": torch.Generator(),
    "points": torch.rand(8, 4),
    "spectrum": torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64),
    "fraction": 0.9,
    "similarity": torch.rand(6, 6, dtype=torch.float64),
    "kernel": torch.rand(6, 6, dtype=torch.float64),
}
MISUSE = [
    ("model", "resnet18", "^model is a torch.nn.Module, got a str"),
    ("images", IMAGES * 255, r"^images are in \[0, 1\], got values of .*; divide by 255"),
    ("images", IMAGES * 4 - 2, r"^images are in \[0, 1\], got .*; normalise in the network, not"),
    ("images", (IMAGES * 255).long(), r"^images are floats in \[0, 1\], got torch.int64; divide"),
    ("images", IMAGES[0], "^images is a tensor of batch x 3 x height x width, got a Tensor of"),
    ("images", IMAGES.numpy(), "^images is a tensor of .*, got a ndarray of"),
    ("perturbed", IMAGES * 255, r"^perturbed are in \[0, 1\], got values of .*; divide by 255"),
    ("labels", LABELS.int(), r"got torch.int32 of \(6,\); convert them with .long\(\)"),
    ("labels", LABELS[:5], "^there are 6 .*images, 5 labels; give one for each"),
    ("labels", LABELS.tolist(), "^labels are whole numbers, one for each image in a tensor"),
    ("columns", "banana", "^unknown columns 'banana'; known are units, maps"),
    ("columns", ["units"], "^unknown columns "),
    ("estimator", "exactly", "^unknown estimator 'exactly'; did you mean 'exact'"),
    ("layers", 3, "^layers is a regular expression of modules' names, got a int"),
    ("layers", "(", r"^layers '\(' is no regular expression"),
    ("probes", 0, "^probes is a whole number, at least 1, got 0"),
    ("projections", 2.5, "^projections is a whole number, at least 1, got 2.5"),
    ("shuffles", True, "^shuffles is a whole number, at least 0, got True"),
    ("classes", "3", "^classes is a whole number, at least 1, got '3'"),
    ("rotations", 0, "^rotations is a whole number, at least 1, got 0"),
    ("seed", None, None),
]
FUNCTIONS = {
    name: inspect.signature(getattr(selbench, name)).parameters
    for name in selbench.__all__
    if name not in ("evaluate", "corrupt")  # corrupt is tested where it is defined
}
CASES = [
    pytest.param(name, argument, value, message, id=f"{name} {argument} {number}")
    for number, (argument, value, message) in enumerate(MISUSE)
    for name, parameters in FUNCTIONS.items()
    if argument in parameters and message and not (argument == "labels" and name == "contrast")
]


@pytest.mark.parametrize(("name", "argument", "value", "message"), CASES)
def test_a_wrong_argument_is_refused_in_one_sentence(name, argument, value, message):
    needed = {n: GOOD[n] for n, p in FUNCTIONS[name].items() if p.default is p.empty}
    with pytest.raises(SelbenchError, match=message) as refused:
        getattr(selbench, name)(**{**needed, argument: value})
    assert "\n" not in str(refused.value)


def test_every_analysis_of_images_is_tried():
    taking = {name for name, parameters in FUNCTIONS.items() if "images" in parameters}
    assert taking <= {case.values[0] for case in CASES if case.values[1] == "images"}
    assert len(taking) == 8


def test_an_argument_that_is_not_there_is_refused():
    with pytest.raises(SelbenchError, match=r"dimensionality: got an unexpected keyword .*colums"):
        selbench.dimensionality(MODEL, IMAGES, colums="units")


@pytest.fixture
def other_defaults():
    """Let torch make bfloat16 on another device, as a caller may want."""
    yield lambda: (torch.set_default_dtype(torch.bfloat16), torch.set_default_device("meta"))
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def flat(found):
    """Return the numbers in whatever an analysis returns."""
    if isinstance(found, torch.Tensor):
        return found.double().flatten().tolist()
    if isinstance(found, (int, float, str, bool, type(None))):
        return [found]
    if isinstance(found, dict):
        return [each for pair in found.items() for part in pair for each in flat(part)]
    parts = found if isinstance(found, (list, tuple)) else vars(found).values()
    return [each for part in parts for each in flat(part)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_defaults_of_torch_change_nothing(name, other_defaults):
    known = {**GOOD, "elasticity": selbench.local_elasticity(MODEL, IMAGES, LABELS)}
    needed = {n: known[n] for n, p in FUNCTIONS[name].items() if p.default is p.empty}

    def found():
        GOOD["generator"].manual_seed(0)
        return list(map(repr, flat(getattr(selbench, name)(**needed))))  # NaN is NaN

    expected = found()
    assert expected
    other_defaults()
    assert found() == expected
