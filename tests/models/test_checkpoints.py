"""Checkpoints as repositories save them: which weights are taken, and what is refused."""

import argparse
import collections
import datetime
import json
import types
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.datasets import load_dataset
from selbench.models import build_model, fitting, load_weights
from selbench.networks.described import NetworkSpec
from selbench.networks.loading import bring
from selbench.study import ModelSpec, load_study


class Small(nn.Module):
    """A network with a batch norm, so with counters and numbers that are no parameters."""

    def __init__(self, outputs=3):
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, outputs)

    def forward(self, images):
        return self.fc(self.stage(images).relu().mean((2, 3)))


def weights(seed=1):
    torch.manual_seed(seed)
    return Small().state_dict()


def below(prefix, state):
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def with_module_inside(state):
    return {name.replace("stage.", "stage.module."): tensor for name, tensor in state.items()}


GOOD, OTHER = weights(1), weights(2)
ADAM = torch.optim.Adam(Small().parameters())
EXTRAS = {
    "of numpy": [np.float64(1.5), np.int64(2), np.bool_(True), np.zeros(3)],
    "arguments": [argparse.Namespace(lr=0.1, out=Path("out")), types.SimpleNamespace(a=1)],
    "containers": [collections.defaultdict(list), {1}, slice(1), range(3)],
    "times": [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1)],
}
LOADED = {
    **{what: ({"net": GOOD, "more": more}, "net") for what, more in EXTRAS.items()},
    "an average beside it": ({"model_ema": OTHER, "model": GOOD}, "model"),
    "an average alone": ({"state_dict_ema": GOOD}, "state_dict_ema"),
    "an average in a nest": ({"ema": {"module": below("module", GOOD)}}, "ema.module"),
    "params": ({"params_ema": OTHER, "params": GOOD}, "params"),
    "a teacher": ({"teacher": below("backbone", GOOD)}, "teacher.backbone"),
    "a student": ({"student": OTHER, "teacher": GOOD}, "teacher"),
    "a number among tensors": ({**GOOD, "epoch": 7, "name": "small"}, "top"),
    "tensors of the script": ({"state_dict": GOOD, "acc": torch.tensor(9.0)}, "state_dict"),
    "an optimiser": ({"model": GOOD, "optimizer": ADAM.state_dict()}, "model"),
    "squares by name": ({"weights": GOOD, "exp_avg_sq": OTHER}, "weights"),
    "a criterion": ({"state_dict": below("model", GOOD) | {"criterion.w": torch.ones(3)}}, None),
    "swa": (below("module", GOOD) | {"n_averaged": torch.tensor(3)}, "top"),
    "momentum": (
        {"state_dict": below("module.encoder_k", OTHER) | below("module.encoder_q", GOOD)},
        "state_dict.encoder_q",
    ),
    "two prefixes": (below("module._orig_mod", GOOD), "top"),
    "parallel within": (with_module_inside(GOOD), "top"),
    "arrays": ({"state_dict": {n: t.numpy() for n, t in GOOD.items()}}, "state_dict"),
    "parameters": ({n: nn.Parameter(t, t.is_floating_point()) for n, t in GOOD.items()}, "top"),
}  # fmt: skip


@pytest.mark.parametrize("what", LOADED)
def test_the_usual_weights_are_taken(what, tmp_path):
    content, place = LOADED[what]
    torch.save(content, tmp_path / "mine.pth")
    network = Small()
    load_weights(network, tmp_path / "mine.pth")
    assert all(torch.equal(GOOD[name], tensor) for name, tensor in network.state_dict().items())
    assert fitting(network, tmp_path / "mine.pth")[0] == (place or "state_dict")


def test_safetensors_under_another_name_load(tmp_path):
    safetensors.torch.save_file(GOOD, tmp_path / "mine.pth")
    network = Small()
    load_weights(network, tmp_path / "mine.pth")
    assert torch.equal(network.fc.weight, GOOD["fc.weight"])


def test_another_entry_is_chosen_by_name(tmp_path):
    path, network = tmp_path / "mine.pth", Small()
    torch.save({"model_ema": OTHER, "model": GOOD}, path)
    load_weights(network, path, "model_ema")
    assert torch.equal(network.fc.weight, OTHER["fc.weight"])
    assert fitting(network, path, "model_ema") == ["model_ema", "model"]
    with pytest.raises(SelbenchError, match=r"unknown entry of .*; did you mean .model_ema"):
        load_weights(network, path, "model_em")


def archive(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(Small()).save(path)


def arrays(path):
    with path.open("wb") as file:
        np.savez(file, a=1)


def program(path):
    torch.export.save(torch.export.export(Small().eval(), (torch.rand(2, 3, 8, 8),)), path)


def cut_short(path):
    torch.save(GOOD, path)
    path.write_bytes(path.read_bytes()[:-200])


REFUSED = {
    "a web page": (b"\n<!DOCTYPE html><html>", "mine.pth is a web page, not a checkpoint; op"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-lfs, not"),
    "gzip": (b"\x1f\x8b\x08\x00", "is packed by gzip; unpack it, and name the file inside"),
    "nothing": (b"", r"\(it is empty\)"),
    "text": (b'{"error": "quota"}', r"""\(it is text: '{"error": "quota"}'\)"""),
    "cut short": (cut_short, r"\(it is cut short; download or copy it again\)"),
    "an archive": (arrays, "is a zip archive without weights"),
    "TorchScript": (archive, "is a TorchScript archive, a whole network; load it with torch.jit"),
    "a program": (program, r"is a program of torch.export, a whole network; .*load\(FILE\).module"),
    "a network": (
        lambda path: torch.save(Small(), path),
        r"it holds a .*\.Small, and loading that may run code\); save model.state_dict\(\) alone",
    ),
    "a normalisation": (
        lambda path: torch.save(below("model", GOOD) | {"normalize.mean": torch.zeros(3)}, path),
        "first missing none, first unexpected normalize.mean;",
    ),
    "whole numbers": (
        lambda path: torch.save({n: t.to(torch.int8) for n, t in GOOD.items()}, path),
        "stage.0.weight is torch.int8, the model's is torch.float32;",
    ),
    "a folder": (lambda path: path.mkdir(), "mine.pth is a folder, not a checkpoint; name a file"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_checkpoint_of_the_network_is_refused(what, tmp_path):
    content, message = REFUSED[what]
    path = tmp_path / "mine.pth"
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    with pytest.raises(SelbenchError, match=message) as refused:
        load_weights(Small(), path)
    assert "\n" not in str(refused.value)


# On their way to a network under test.


@pytest.fixture
def taken(tiny_study):
    """Return a function that brings a network to three digits of 32 x 32 pixels."""
    study = load_study(str(tiny_study))

    def take(spec, **more):
        given = {"mean": (0.0,) * 3, "std": (1.0,) * 3, **more}
        return bring(NetworkSpec(spec=spec, **given), study.model, load_dataset(study.dataset))

    return take


def resnet(depth, outputs=3, **options):
    torch.manual_seed(depth)
    spec = ModelSpec(name=f"resnet{depth}", options=options)
    return build_model(spec, outputs, ((0.0,) * 3, (1.0,) * 3)).eval()


def test_width_and_shortcut_of_a_resnet_are_seen_from_its_weights(taken, tmp_path):
    network = resnet(56, width=4, shortcut="B")
    state = below("module", network.network.state_dict())
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "mine.th")
    found = taken("selbench:resnet56", weights=tmp_path / "mine.th")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.load()(images), network(images))


def test_a_resnet_of_another_depth_than_its_name_is_refused(taken, tmp_path):
    torch.save(resnet(8, width=4).network.state_dict(), tmp_path / "mine.th")
    said = r"mine.th has the weights of a resnet8, not of a resnet20; .*: --model selbench:resnet8$"
    with pytest.raises(SelbenchError, match=said):
        taken("selbench:resnet20", weights=tmp_path / "mine.th")


def test_another_number_of_outputs_is_refused_with_the_class_map(taken, tmp_path):
    torch.save(resnet(8, 5, width=4).network.state_dict(), tmp_path / "five.th")
    said = r"five.th has 5 outputs, the data set folder 3 classes; map .*--class-map \(a CSV file"
    with pytest.raises(SelbenchError, match=said):
        taken("selbench:resnet8", weights=tmp_path / "five.th")
    broken = {"extra.weight": torch.zeros(1), **resnet(8, 5, width=4).network.state_dict()}
    torch.save(broken, tmp_path / "five.th")
    with pytest.raises(SelbenchError, match=r"first unexpected extra.weight; choose"):
        taken("selbench:resnet8", weights=tmp_path / "five.th")


def test_without_training_images_the_normalisation_comes_from_the_file_or_the_user(
    taken, tmp_path, tiny_study
):
    study = load_study(str(tiny_study))
    data = load_dataset(study.dataset)
    bare = replace(data, train=data.train.take(torch.arange(0)))
    network, path = resnet(8, width=4), tmp_path / "mine.pth"
    spec = NetworkSpec(spec="selbench:resnet8", weights=path)
    torch.save(network.state_dict(), path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(bring(spec, study.model, bare).load()(images), network(images))
    torch.save(network.network.state_dict(), path)
    said = (
        r"does not carry the mean .* no training images to compute it from; give --mean and --std"
    )
    with pytest.raises(SelbenchError, match=said):
        bring(spec, study.model, bare)
    given = replace(spec, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert torch.equal(bring(given, study.model, bare).load()(images), network(images))


def test_a_class_map_chooses_among_the_outputs_of_a_resnet(taken, tmp_path):
    network = resnet(8, 5, width=4)
    torch.save(below("module", network.network.state_dict()), tmp_path / "five.th")
    (tmp_path / "map.json").write_text(json.dumps({f"{4 - n}": f"digit-{n}" for n in range(3)}))
    words = {"weights": tmp_path / "five.th", "class_map": tmp_path / "map.json"}
    found = taken("selbench:resnet8", **words)
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(found.load()(images), network(images)[:, 2:].flip(1), atol=1e-6)


def test_it_is_said_which_weights_were_taken(selbench, tiny_study, tmp_path):
    state, path = resnet(8, width=4).network.state_dict(), tmp_path / "mine.pth"
    torch.save({"model": state, "model_ema": state, "other": OTHER}, path)
    words = ["run", tiny_study, "--suite", "clean", "--checkpoint", path]
    said = selbench(*words).err
    assert "mode; weights of model (there are also model_ema: --entry chooses)" in said
    said = selbench(*words, "--entry", "model_ema").err
    assert f"{path} (model_ema): images in [0, 1]" in said
    assert "weights of model_ema (there are also model: --entry" in said


def test_an_entry_of_no_file_is_refused(taken):
    with pytest.raises(SelbenchError, match="--entry ema names weights in a file; give the file"):
        taken("torchvision:resnet18", entry="ema")
