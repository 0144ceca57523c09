"""RobustBench's file of a network, from a store."""

import json
from pathlib import Path

import pandas as pd
import pytest

from selbench.networks import robustbench_zoo
from selbench.store.records import digest_of


def accuracies(suite, study="tiny"):
    rows = pd.read_csv(Path("runs") / study / "measurements.csv")
    return rows[(rows["suite"] == suite) & (rows["metric"] == "accuracy")]["value"]


WRONG = {
    ("--threat-model", "Linf"): "autoattack-linf at 8/255 was not run on this network; run --suite",
    ("--threat-model", "linf"): "unknown threat model 'linf'; did you mean 'Linf'",
    ("--subject", "mine.pt"): "unknown network 'mine.pt'; known are ",
    ("tidy",): "unknown study in the store runs 'tidy'; did you mean 'tiny'",
}


@pytest.mark.soak
def test_fields_are_robustbench_s_and_numbers_the_store_s(
    selbench, refused, tiny_study, checkpoint
):
    words = ["run", tiny_study, "--checkpoint", checkpoint, "--suite", "corruptions"]
    assert selbench(*words).code == 0
    said = selbench("model-info")
    assert said.code == 0, said.err
    (path,) = Path("model_info/folder/corruptions").iterdir()
    assert str(path) in said.out
    fields = json.loads(path.read_text())
    known = robustbench_zoo._library().ModelInfo(**fields)
    assert known.dataset == "folder"
    assert known.architecture == "resnet8"
    assert known.clean_acc == str(round(accuracies("clean").item() * 100, 2))
    assert len(accuracies("corruptions")) == 75
    assert known.corruptions_acc == str(round(accuracies("corruptions").mean() * 100, 2))
    assert known.eps is None
    assert "18 test images" in known.footnote
    assert not {"name", "authors", "venue", "corruptions_mce"} & set(fields)
    assert selbench("model-info", "--checkpoint", checkpoint, "--output", "again").code == 0
    message = "unknown network of the store 'torchvision:resnet18'; known are "
    assert message in refused("model-info", "--model", "torchvision:resnet18")
    for wrong, sentence in WRONG.items():
        assert sentence in refused("model-info", *wrong)

    store = Path("runs/tiny/manifest.json")  # which may come from anywhere: it names no folder
    content = json.loads(store.read_text())
    content["study"]["dataset"]["name"] = "../escaped"
    content |= {"digest": digest_of(content)}  # by someone who knows how it is signed
    store.write_text(json.dumps(content))
    assert selbench("model-info", "--output", "kept/info").code == 0
    (written,) = Path("kept").glob("**/*.json")
    assert written.parts[:-1] == ("kept", "info", "escaped", "corruptions")


def test_incomplete_corruptions_and_several_networks_are_refused(
    selbench, refused, tiny_study, few_conditions
):
    selbench("run", tiny_study, "--suite", "corruptions")
    assert "the store has several networks (alpha=0 seed=0, alpha=1 seed=0); name" in refused(
        "model-info"
    )
    assert "is over 75 cells and 71 are not there" in refused(
        "model-info", "--subject", "alpha=0 seed=0"
    )
