"""`selbench init`: what it prints runs unchanged."""

import shlex
from pathlib import Path

import pytest

NETWORK = """
import torch

def build(num_classes):
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(32, num_classes),
    )
"""


def test_the_commands_that_it_prints_run_unchanged(
    selbench, refused, image_tree, monkeypatch, few_conditions
):
    Path("net.py").write_text(NETWORK)
    image_tree("my images", train=1, test=2)
    began = selbench("init", "my images", "--model", "net.py:build", "--name", "a net", "-q")
    assert began.code == 0, began.err
    printed = [line.split(maxsplit=1)[1] for line in began.out.splitlines() if line[:4] == "    "]
    names = [shlex.split(line)[0] for line in printed]
    assert names == ["run", "report", "baseline", "check"]
    study = Path("my images.toml")
    study.write_text(study.read_text() + "# mine\n")
    again = ("init", "my images", "--model", "net.py:build", "-q")
    assert "is another study, which may have been edited" in refused(*again)
    named = selbench(*again, "-o", "-x.toml").out
    assert "run ./-x.toml --model" in named
    monkeypatch.setattr("selbench.report.drawings.FIGURES", {})
    for line in printed:
        ended = selbench(*shlex.split(line))
        assert ended.code == 0, (line, ended.out, ended.err)
    assert "(--detect 3), a check needs about 1,000 images" in began.out
    monkeypatch.setattr("selbench.commands.init.ENOUGH", 6)
    assert selbench(*again, "--force").out.rstrip().endswith(" --detect 3")
    assert "a net" in Path("site/index.html").read_text()


def test_a_network_without_weights_is_named(selbench, images):
    said = selbench("init", images, "--model", "torchvision:shufflenet_v2_x0_5", "-q").out
    assert "torchvision:shufflenet_v2_x0_5 (random) is untrained: give its weights with" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say which network to test: --model torchvision:resnet18, for example"),
        (
            ["--model", "net.py:build", "--data", "x"],
            "FOLDER holds the images; leave out --dataset",
        ),
        (
            ["--model", "net.py:build", "-o", "net.py"],
            "net.py exists and is not a study of `selbench init`",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(refused, images, words, message):
    Path("net.py").write_text(NETWORK)
    assert message in refused("init", images, *words)
