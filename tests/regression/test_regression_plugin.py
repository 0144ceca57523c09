"""The plugin of pytest: what it asserts, and what it costs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.datasets.dataset import make_split
from selbench.pytest_plugin import assert_robust
from selbench.regression.baseline import read_baseline

pytest_plugins = ["pytester"]
pytestmark = [pytest.mark.long(8), pytest.mark.usefixtures("few_conditions")]


@pytest.fixture
def data():
    """Return 60 random images, and labels of three classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.arange(60) % 3


def test_importing_it_does_without_torch():
    code = "import selbench.pytest_plugin, sys; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_the_same_model_passes(network, data):
    assert assert_robust(network(), data, "b.json", update=True) is None
    report = assert_robust(network(), make_split(*data), "b.json")
    assert report.comparison.examples == 60
    assert not report.failed


def test_a_worse_model_fails_with_the_reason(network, data, perfect):
    assert_robust(network(), data, "b.json", update=True)
    perfect(Path("b.json"))
    with pytest.raises(AssertionError, match="model got worse in mean of 4 conditions: -"):
        assert_robust(network(), data, "b.json")


@pytest.mark.soak
def test_several_networks_are_one_model(network, data):
    assert_robust([network(0), network(1)], data, "b.json", update=True, suites=["clean"])
    report = assert_robust([network(0)], data, "b.json", suites=["clean"])
    assert report.comparison.networks == (2, 1)


def test_the_model_stays_as_it_was(network, data):
    model = network().train()
    assert_robust(model, data, "b.json", update=True, suites=["clean"])
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_images_in_01_are_those_in_255ths(network, data):
    images, labels = data
    assert_robust(network(), data, "b.json", update=True, suites=["clean"])
    given = (images.permute(0, 2, 3, 1).numpy() / 255, labels.int().numpy()[:, None] + 1)
    assert not assert_robust(network(), given, "b.json", suites=["clean"]).failed


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (torch.zeros(4, 3, 32, 32) - 2, torch.zeros(4).long(), "so they are normalised; take"),
        (torch.zeros(4, 2, 32, 32).byte(), torch.zeros(4).long(), "images have 3 channels, or 1"),
        (torch.zeros(4, 3, 32, 32).byte(), torch.zeros(3).long(), "are 4 images and 3 labels"),
        (torch.zeros(4, 3, 32, 32).byte(), torch.full((4,), 0.5), "are class numbers, got 0.5"),
    ],
)
def test_images_of_another_kind_are_refused(network, images, labels, expected):
    with pytest.raises(SelbenchError, match=expected):
        assert_robust(network(), (images, labels), "b.json", update=True)


def test_a_missing_baseline_is_told_with_what_writes_this_one(data, network):
    with pytest.raises(SelbenchError, match=r"there is no baseline b\.json; make it"):
        assert_robust(network(), data, "b.json")
    Path("b.json").write_text("{")
    with pytest.raises(SelbenchError, match=r"make a new one with `pytest .* or with update=True$"):
        assert_robust(network(), data, "b.json")


def test_no_network_and_a_bad_tolerance_are_refused(data, network):
    with pytest.raises(SelbenchError, match="there is no network to compare"):
        assert_robust([], data, "b.json")
    with pytest.raises(SelbenchError, match="--tolerance is a fraction"):
        assert_robust(network(), data, "b.json", tolerance=2)


class Answers(nn.Module):
    """Return what a function makes of images, as a network would."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        """Answer."""
        return self.answer(images)


def brightness(images):
    return images.mean(dim=(1, 2, 3))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda images: torch.zeros(len(images), 2), "numbers of 2 classes, from 0 to 1, got 2"),
        (lambda images: (torch.zeros(3),), "model 0 returns a tuple, not a tensor"),
        (brightness, r"model 0 makes \(2,\) of 2 images"),
        (lambda images: images[0, 0, 0, 99], "model 0 cannot take images of 32 x 32 pixels"),
    ],
)
def test_a_network_without_logits_of_the_classes_is_refused(data, answer, expected):
    with pytest.raises(SelbenchError, match=expected):
        assert_robust(Answers(answer), data, "b.json", update=True)


def test_a_network_that_fails_under_a_condition_is_refused_with_the_reason(data):
    def answer(images):
        if len(images) > 20:  # not the few that are looked at before
            raise RuntimeError("too wild\nfor me")
        return torch.stack([brightness(images)] * 3, 1)

    with pytest.raises(SelbenchError, match=r"model 0 failed under .* \(RuntimeError: too wild\)"):
        assert_robust(Answers(answer), data, "b.json", update=True)
    assert not Path("b.json").exists()


@pytest.mark.parametrize("model", [None, "net.pt", [None]])
def test_what_is_no_network_is_refused(data, model):
    with pytest.raises(SelbenchError, match=r"model is a torch.nn.Module, or a list of several"):
        assert_robust(model, data, "b.json", update=True)


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"budget": 60}, "--budget takes a time such as 60s or 5m, got 60"),
        ({"tolerance": "0.01"}, "--tolerance is a fraction of 1 .* got '0.01'"),
        ({"limit": 0}, "limit is a number of test images, at least 2, got 0"),
        ({"limit": -5}, "limit is a number of test images, at least 2, got -5"),
        ({"limit": "9"}, "limit is a number of test images, at least 2, got '9'"),
        ({"suites": ()}, "there is no suite to compare"),
        ({"suites": "nope"}, "unknown suite 'nope'"),
        ({"scale": 31}, "--scale takes 32, 64 or 224, got 31"),
    ],
)
@pytest.mark.sample
def test_what_options_cannot_be_is_refused(network, data, options, expected, update):
    assert_robust(network(), data, "b.json", update=True, suites=["clean"])
    with pytest.raises(SelbenchError, match=expected):
        assert_robust(network(), data, "b.json", update=update, **options)


@pytest.mark.parametrize("data", [None, (), 5, "digits", torch.zeros(2, 3, 32, 32).byte(), (1, 2)])
def test_what_is_no_pair_of_tensors_is_refused(network, data):
    with pytest.raises(SelbenchError, match="data is a pair of tensors, images and labels, or"):
        assert_robust(network(), data, "b.json", update=True)


def test_labels_below_0_and_too_few_images_are_refused(network, data):
    images, labels = data
    with pytest.raises(SelbenchError, match="labels are numbers of 3 classes, from 0 to 2, got -1"):
        assert_robust(network(), (images, labels - 1), "b.json", update=True)
    with pytest.raises(SelbenchError, match="at least 2 test images, got 1"):
        assert_robust(network(), (images[:1], labels[:1]), "b.json", update=True)


def test_a_suite_may_be_named_without_a_list(network, data):
    assert_robust(network(), data, "b.json", update=True, suites="clean")
    assert not assert_robust(network(), data, "b.json", suites="clean").failed


def test_images_of_another_size_take_the_constants_of_a_scale(data):
    def answer(images):
        return torch.stack([brightness(images)] * 3, 1)

    small = (data[0][:, :, :28, :28], data[1])
    with pytest.raises(SelbenchError, match=r"no constants for images of 28 x 28 .*--scale 32"):
        assert_robust(Answers(answer), small, "b.json", update=True)
    assert_robust(Answers(answer), small, "b.json", update=True, scale=32)
    assert not assert_robust(Answers(answer), small, "b.json", scale=32).failed


def test_the_same_network_twice_tells_no_spread(network, data):
    with pytest.raises(
        SelbenchError, match=r"model 0 is there twice \(as model 2 too\); name each"
    ):
        assert_robust([network(), network(1), network()], data, "b.json", update=True)


def test_logits_that_are_not_finite_pass_nothing(data, network):
    def answer(images):
        dark = brightness(images) < brightness(images).max()
        return torch.where(dark[:, None], 1.0, torch.nan) * torch.eye(3)[:1]

    images, labels = data
    images[-1] = 255
    broken = Answers(lambda images: answer(images) if len(images) > 2 else torch.ones(2, 3))
    expected = "model 0 returns logits that are not finite for 1 of 60 clean images; look at"
    with pytest.raises(SelbenchError, match=expected):
        assert_robust(broken, (images, labels), "b.json", update=True)
    assert not Path("b.json").exists()
    assert_robust(network(), (images, labels), "b.json", update=True)
    with pytest.raises(SelbenchError, match=expected):
        assert_robust(broken, (images, labels), "b.json")


def test_logits_that_are_not_finite_recognise_nothing_under_a_corruption(data):
    def answer(images):
        logits = torch.tensor([[3.0, 2.0, 1.0]]).repeat(len(images), 1)
        logits[brightness(images) > 0.1] = torch.nan
        return logits

    images = torch.full((60, 3, 32, 32), 20, dtype=torch.uint8)
    labels = torch.zeros(60).long()
    assert_robust(Answers(answer), (images, labels), "b.json", update=True)
    correct = read_baseline(Path("b.json")).correct()
    assert correct["clean/clean"].all()
    assert not correct["corruptions/brightness/5"].any()


def test_the_fixture_writes_and_compares_beside_the_test(pytester):
    pytester.makepyfile(
        """
        import torch

        def test_model(selbench_check):
            images = torch.arange(30 * 3072).view(30, 3, 32, 32).to(torch.uint8)
            model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))
            torch.nn.init.ones_(model[1].weight)
            selbench_check(model, (images, torch.arange(30) % 3), suites=["clean"])
        """
    )
    words = ("-p", "selbench.pytest_plugin", "-p", "no:cacheprovider")
    pytester.inline_run(*words, "--selbench-update").assertoutcome(passed=1)
    (module,) = pytester.path.glob("*.py")
    assert (pytester.path / f"{module.stem}-test_model.baseline.json").is_file()
    pytester.inline_run(*words).assertoutcome(passed=1)
    module.with_name("test_other.py").write_text(module.read_text().replace("ones_", "zeros_"))
    pytester.inline_run(*words, "--selbench-update").assertoutcome(passed=2)
    kept = {path.name: path.read_text() for path in pytester.path.glob("*.baseline.json")}
    assert set(kept) == {f"{name}-test_model.baseline.json" for name in (module.stem, "test_other")}
    pytester.inline_run(*words).assertoutcome(passed=2)


SHARED = """
import pytest
import torch

DATA = torch.arange(30 * 3072).view(30, 3, 32, 32).to(torch.uint8), torch.arange(30) % 3

def model():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))
"""
TWO_CALLS = """
def test_two(selbench_check):
    selbench_check(model(), DATA, suites=["clean"])
    selbench_check(model(), DATA, suites=["clean"]{second})
"""
THREE_IDS = """
@pytest.mark.parametrize("name", ["a/b", "a-b", "a b", "c"])
def test_p(selbench_check, name):
    selbench_check(model(), DATA, suites=["clean"])
"""


def plugged(pytester, *words):
    return pytester.runpytest_inprocess(
        "-p", "selbench.pytest_plugin", "-p", "no:cacheprovider", "--selbench-update", *words
    )


@pytest.mark.soak
def test_two_calls_do_not_share_a_default_file(pytester):
    module = pytester.makepyfile(SHARED + TWO_CALLS.format(second=""))
    ended = plugged(pytester)
    ended.assert_outcomes(failed=1)
    expected = (
        f"SelbenchError: several calls in {module.name}::test_two would share "
        f"{module.stem}-test_two.baseline.json; name a file for each with the argument "
        'baseline="FILE.json" of selbench_check'
    )
    assert expected in ended.stdout.str()
    module.write_text(SHARED + TWO_CALLS.format(second=", baseline='second.json'"))
    plugged(pytester).assert_outcomes(passed=1)


def test_ids_that_name_one_default_file_do_not_share_it(pytester):
    module = pytester.makepyfile(SHARED + THREE_IDS)
    ended = plugged(pytester)
    ended.assert_outcomes(passed=2, failed=2)
    ended.stdout.fnmatch_lines(
        [f"*{module.name}::test_p?a/b? and {module.name}::test_p?a-b? would share *"]
    )
    files = {f"{module.stem}-test_p-{name}-.baseline.json" for name in ("a-b", "c")}
    assert {path.name for path in pytester.path.glob("*.json")} == files
