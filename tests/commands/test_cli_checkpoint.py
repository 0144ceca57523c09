"""A user's own checkpoint on the command line, evaluated instead of training."""

import tarfile
from itertools import takewhile

import pandas as pd
import pytest
import torch
from kept import measurements

from selbench._kit.progress import SILENT
from selbench.datasets import load_dataset
from selbench.datasets.dataset import make_split
from selbench.datasets.images import decode_images
from selbench.models import build_model, load_weights
from selbench.study import ModelSpec, load_study
from selbench.training import accuracy
from selbench.training import trained as training_run


def accuracy_with(network, mean, std, study):
    split = load_dataset(load_study(str(study)).dataset).test
    channels = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    logits = network.eval()((split.images / 255 - channels[0]) / channels[1])
    return (logits.argmax(1) == split.labels).double().mean().item()


@pytest.mark.parametrize("normalisation", ["given", "the training images'"])
@pytest.mark.sample
def test_checkpoint_is_evaluated_instead_of_training(
    normalisation, selbench, tiny_study, checkpoint, monkeypatch
):
    monkeypatch.setattr(training_run, "train", None)
    study = load_study(str(tiny_study))
    network = build_model(study.model, 3, ((0, 0, 0), (1, 1, 1))).network
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    if normalisation == "given":
        options, moments = (
            ("--mean", "0.4,0.5,0.6", "--std", "0.1,0.2,0.9"),
            [
                (0.4, 0.5, 0.6),
                (0.1, 0.2, 0.9),
            ],
        )
    else:
        options, moments = (), load_dataset(study.dataset).moments
    assert selbench("run", tiny_study, "--checkpoint", checkpoint, *options).code == 0
    (kept,) = measurements().query("metric == 'accuracy'").to_dict("records")
    assert kept["subject"] == str(checkpoint)
    assert pd.isna(kept["alpha"])
    assert kept["value"] == accuracy_with(network, *moments, tiny_study)


@pytest.mark.soak
def test_foreign_checkpoint_evaluates_as_published(
    selbench, tiny_study, edit, cifar10_test, test_data
):
    edit(tiny_study, 'name = "resnet8"\noptions = { width = 4 }', 'name = "resnet20"')
    words = ["run", tiny_study, "--data", cifar10_test, "--limit", 500]
    words += ["--checkpoint", test_data / "weights" / "resnet20-cifar10.th"]
    words += ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    assert selbench(*words).code == 0
    (accuracy,) = measurements().query("metric == 'accuracy'")["value"]
    assert accuracy == pytest.approx(0.81, abs=0.03)  # 0.810 on all 10,000


@pytest.mark.soak
@pytest.mark.usefixtures("fresh_home")
def test_foreign_checkpoint_scores_81_percent_on_every_fourth_test_image(test_data, tmp_path):
    with tarfile.open(test_data / "cifar10-jpeg.tar.xz") as archive:
        tests = takewhile(lambda member: member.name.split("/")[0] == "test", archive)
        images = list(filter(tarfile.TarInfo.isfile, tests))
        assert len(images) == 10_000
        archive.extractall(tmp_path, images[::4], filter="data")
    paths = sorted((tmp_path / "test").glob("*/*.jpg"))
    classes = sorted({path.parent.name for path in paths})
    labels = torch.tensor([classes.index(path.parent.name) for path in paths])
    split = make_split(decode_images(paths, SILENT, "decode"), labels)
    moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = build_model(ModelSpec(name="resnet20"), 10, moments)
    load_weights(model, test_data / "weights" / "resnet20-cifar10.th")
    assert len(split) == 2_500
    assert accuracy(model, split) == pytest.approx(0.810, abs=0.016)  # two standard errors


def test_a_checkpoint_with_a_normalisation_of_its_own_keeps_it(selbench, tiny_study, shared_home):
    selbench("train", tiny_study, "--alpha", "0")
    whole = next(shared_home.glob("weights/*/weights.safetensors"))
    words = ["--checkpoint", whole, "--mean", "0.1,0.2,0.3"]
    refused = selbench("run", tiny_study, *words)
    assert refused.code == 2
    assert "leave out --mean and --std" in refused.err


@pytest.mark.parametrize("deviation", ["0,1,1", "-1,1,1", "nan,1,1"])
def test_a_deviation_that_is_none_is_refused(selbench, tiny_study, checkpoint, deviation):
    refused = selbench("run", tiny_study, "--checkpoint", checkpoint, "--std", deviation)
    assert refused.code == 2
    assert "--mean or --std of" in refused.err
