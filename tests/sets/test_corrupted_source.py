"""Corrupted sets on disk as users meet them: runs that take their images from one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from selbench.datasets.dataset import make_split
from selbench.sets.layout import read_about
from selbench.sets.reading import CorruptedSet


def write_set(root, names=("fog", "contrast")):
    """Corrupt the test images of a study's folder into the layout of CIFAR-10-C."""
    from corruptions import corrupt
    from selbench._kit.progress import SILENT
    from selbench.datasets import DATASETS

    test = DATASETS["folder"](Path("images"), SILENT).test
    root.mkdir()
    for name in names:
        blocks = [corrupt(test.images, name, s, examples=test.examples) for s in range(1, 6)]
        np.save(root / f"{name}.npy", torch.cat(blocks).permute(0, 2, 3, 1).numpy())
    np.save(root / "labels.npy", np.tile(test.labels.numpy().astype(np.uint8), 5))


def accuracies(selbench, *words):
    assert selbench("run", *words, "--quiet").code == 0
    import pandas as pd

    rows = pd.read_csv("runs/tiny/measurements.csv")
    return rows[(rows["metric"] == "accuracy") & (rows["suite"] == "corruptions")]


def test_a_set_on_disk_gives_the_numbers_of_the_images_it_holds(selbench, tiny_study, tmp_path):
    words = (tiny_study, "--suite", "corruptions", "--corruption", "fog,contrast", "--alpha", "1")
    made = accuracies(selbench, *words)
    write_set(tmp_path / "stored")
    both = accuracies(selbench, *words, "--source", "stored")
    assert set(both["source"]) == {"generated", "files"}
    stored = both[both["source"] == "files"]
    keys = ["condition", "level", "subject"]
    ours, theirs = (part.set_index(keys)["value"].sort_index() for part in (made, stored))
    assert ours.equals(theirs)
    board = selbench("run", *words, "--source", "stored").out
    assert "2 corruptions, with their severities 10 files" in " ".join(board.split())
    again = selbench("run", *words).out
    assert "severities 10 generated" in " ".join(again.split())


@pytest.mark.soak
def test_a_set_on_disk_is_limited_like_the_test_images(selbench, tiny_study, tmp_path):
    words = (tiny_study, "--suite", "corruptions", "--corruption", "fog", "--limit", "6")
    made = accuracies(selbench, *words)
    write_set(tmp_path / "stored", ["fog"])
    both = accuracies(selbench, *words, "--source", "stored")
    stored = both[both["source"] == "files"]
    assert set(stored["n"]) == {6}
    assert sorted(made["value"]) == sorted(stored["value"])


@pytest.mark.soak
def test_a_study_names_its_set_relative_to_its_file(selbench, tiny_study, tmp_path, edit):
    write_set(tmp_path / "stored", ["fog"])
    edit(tiny_study, "[dataset]", '[corruptions]\nsource = "stored"\n\n[dataset]')
    (tmp_path / "elsewhere").mkdir()
    words = (tiny_study, "--suite", "corruptions", "--corruption", "fog")
    rows = accuracies(selbench, *words)
    assert set(rows["source"]) == {"files"}


def test_a_set_without_a_corruption_of_the_suite_is_refused_before_training(
    refused, tiny_study, tmp_path, fresh_home
):
    write_set(tmp_path / "stored", ["fog"])
    sentence = refused("run", tiny_study, "--suite", "corruptions-extra", "--source", "stored")
    assert "stored holds none of the corruptions of corruptions-extra; it holds fog; " in sentence
    asked = ("--suite", "corruptions", "--corruption", "snow", "--source", "stored")
    assert "stored holds neither snow.npy nor a folder snow with" in refused(
        "run", tiny_study, *asked
    )
    (tmp_path / "empty").mkdir()
    sentence = refused("run", tiny_study, "--suite", "corruptions", "--source", "empty")
    assert "<corruption>/<severity>/<class>/* or <class>/*; name" in sentence
    assert not (fresh_home / "weights").exists()


@pytest.mark.soak
def test_corruptions_that_a_set_lacks_are_named_and_left_out(selbench, tiny_study, tmp_path):
    write_set(tmp_path / "stored")
    words = ("run", tiny_study, "--suite", "corruptions", "--source", "stored", "--limit", "6")
    with pytest.warns(UserWarning, match="stored lacks gaussian_noise, .*; corruptions is run wit"):
        ended = selbench(*words)
    assert ended.code == 0
    assert "2 corruptions, with their severities 10 files" in " ".join(ended.out.split())


def test_a_set_on_disk_is_of_all_classes(refused, tiny_study, tmp_path, edit):
    write_set(tmp_path / "stored", ["fog"])
    edit(tiny_study, "[dataset]", "[dataset]\nclasses = 2")
    words = ("run", tiny_study, "--suite", "corruptions", "--corruption", "fog")
    assert refused(*words, "--source", "stored").endswith(
        "stored are of all classes; leave out dataset.classes, or --source"
    )


@pytest.mark.parametrize("layout", ["npy", "folder"])
@pytest.mark.sample
def test_a_set_of_our_own_is_paired_with_the_test_images_in_their_order(selbench, layout):
    from corruptions import corrupt
    from selbench._kit.progress import SILENT
    from selbench.datasets import DATASETS

    data = DATASETS["digits"](None, SILENT)  # not in the order of their classes
    words = ("--corruption", "brightness", "--severity", "1", "--format", layout)
    assert selbench("corrupt", "digits", "set", *words).code == 0
    (stored,) = (
        CorruptedSet(Path("set").absolute(), data.classes, data.test).find("brightness").values()
    )
    assert stored.paired
    split = stored.split()
    assert torch.equal(split.labels, data.test.labels)
    made = corrupt(data.test.images, "brightness", 1, examples=data.test.examples)
    apart = (split.images.float() - made.float()).abs().mean((1, 2, 3))
    assert apart.max() < (1 if layout == "npy" else 10)  # JPEG


@pytest.mark.parametrize(
    "names",
    [
        ("cat.png", "cat.flipped.png"),  # without suffixes they sort the other way round
        ("cat.png", "cat.png.A.png"),  # so they do with both suffixes
        ("cat.bmp", "cat.png"),  # without suffixes they are one
    ],
)
def test_names_that_sort_otherwise_in_a_set_are_paired_all_the_same(selbench, tmp_path, names):
    folder = tmp_path / "photos" / "cats"
    folder.mkdir(parents=True)
    greys = torch.tensor([50, 150], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 32, 32)
    for name, image in zip(sorted(names), greys, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / name)
    words = ("--corruption", "brightness", "--severity", "1", "--format", "folder")
    assert selbench("corrupt", str(folder.parent), "set", *words).code == 0
    test = replace(
        make_split(greys, torch.zeros(2, dtype=torch.int64)), checksum=read_about(Path("set")).data
    )
    (stored,) = CorruptedSet(Path("set").absolute(), ("cats",), test).find("brightness").values()
    assert stored.paired
    apart = stored.split().images.float() - test.images.float()
    assert apart.abs().mean((1, 2, 3)).max() < 60  # the other image is 100 apart


def test_folders_that_lack_an_image_or_an_account_are_not_paired(selbench, refused, tiny_study):
    selbench("corrupt", "images", "set", "--corruption", "fog", "--format", "folder")
    words = ("run", tiny_study, "--suite", "dimensionality", "--source", "set")
    message = "the images of fog in "
    for severity in range(1, 6):
        next(Path(f"set/fog/{severity}/digit-0").iterdir()).unlink()
    assert refused(*words).startswith(message)
    selbench("corrupt", "images", "other", "--corruption", "fog", "--format", "folder")
    (about,) = Path("other").glob("*.json")
    about.unlink()
    assert refused(*words[:-1], "other").startswith(message)
