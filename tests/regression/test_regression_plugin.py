"""The plugin of pytest: what it asserts, and what it costs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from selbench.datasets.dataset import make_split
from selbench.errors import SelbenchError
from selbench.pytest_plugin import assert_robust

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("few_conditions")


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
    with pytest.raises(AssertionError, match="model got worse in mean of 4 conditions by -"):
        assert_robust(network(), data, "b.json")


def test_several_networks_are_one_model(network, data):
    assert_robust([network(0), network(1)], data, "b.json", update=True, suites=["clean"])
    report = assert_robust([network(0)], data, "b.json", suites=["clean"])
    assert report.comparison.networks == (2, 1)


def test_the_model_stays_as_it_was(network, data):
    model = network().train()
    assert_robust(model, data, "b.json", update=True, suites=["clean"])
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (torch.zeros(4, 3, 32, 32), torch.zeros(4).long(), "images are uint8 of batch x 3"),
        (torch.zeros(4, 1, 32, 32).byte(), torch.zeros(4).long(), "images are uint8 of batch x 3"),
        (torch.zeros(4, 3, 32, 32).byte(), torch.zeros(3).long(), "labels are int64, one per"),
        (torch.zeros(4, 3, 32, 32).byte(), torch.zeros(4), "labels are int64, one per"),
    ],
)
def test_images_of_another_kind_are_refused(network, images, labels, expected):
    with pytest.raises(SelbenchError, match=expected):
        assert_robust(network(), (images, labels), "b.json", update=True)


def test_a_missing_baseline_is_told(data, network):
    with pytest.raises(SelbenchError, match="there is no baseline"):
        assert_robust(network(), data, "b.json")


def test_no_network_and_a_bad_tolerance_are_refused(data, network):
    with pytest.raises(SelbenchError, match="there is no network to compare"):
        assert_robust([], data, "b.json")
    with pytest.raises(SelbenchError, match="--tolerance is a fraction"):
        assert_robust(network(), data, "b.json", tolerance=2)


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
