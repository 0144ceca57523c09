"""Corrupted sets on disk: both layouts, what they are called, and what is wrong with them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corruptions import CORRUPTIONS
from selbench.corrupted import reading
from selbench.corrupted.layout import ABOUT, PUBLISHED, About, Part
from selbench.corrupted.reading import CorruptedSet, md5_of, official_folder
from selbench.datasets.download import RECEIPT
from selbench.errors import SelbenchError
from selbench.files import home

CLASSES = ("digit-0", "digit-1", "digit-2")
IMAGES, SIDE = 6, 8


@pytest.fixture
def arrays(tmp_path):
    """Write a set of two corruptions in CIFAR-10-C's layout, small; return its folder."""
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("fog", "contrast"):
        pixels = random.integers(256, size=(5 * IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
        np.save(folder / f"{name}.npy", pixels)
    np.save(folder / "labels.npy", np.tile(np.arange(IMAGES, dtype=np.uint8) % 3, 5))
    return folder


@pytest.fixture
def folders(tmp_path):
    """Write a set of one corruption in Tiny-ImageNet-C's layout, small; return its folder."""
    folder = tmp_path / "Tiny-ImageNet-C"
    for severity in range(1, 6):
        for number, name in enumerate(CLASSES):
            place = folder / "fog" / str(severity) / name
            place.mkdir(parents=True)
            for file in ("a", "b"):
                shade = 10 * severity + number
                Image.new("RGB", (SIDE, SIDE), (shade,) * 3).save(place / f"{file}.JPEG")
    return folder


def the_set(folder, **facts):
    return CorruptedSet(folder, CLASSES, (SIDE, SIDE), **facts)


def about(**facts):
    plain = {"layout": "npy", "data": "d", "images": IMAGES, "classes": CLASSES, "seed": 0}
    parts = {"fog": Part(version=1, variant="", finished=(1, 2, 3, 4, 5))}
    return About(**(plain | {"scale": 32, "severities": (1, 2, 3, 4, 5), "parts": parts} | facts))


def test_arrays_are_read_block_by_block(arrays):
    published = np.load(arrays / "fog.npy")
    for severity in range(1, 6):
        stored = the_set(arrays).find("fog", severity)
        split = stored.load()
        block = published[(severity - 1) * IMAGES : severity * IMAGES]
        assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), block)
        assert split.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert split.examples.tolist() == list(range(IMAGES))
        assert (stored.images, stored.source) == (IMAGES, "files")


def test_folders_are_read_class_by_class(folders):
    stored = the_set(folders).find("fog", 3)
    split = stored.load()
    assert split.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert split.images[:, 0, 0, 0].tolist() == [30, 30, 31, 31, 32, 32]
    assert (stored.images, stored.source) == (6, "files")


@pytest.mark.parametrize("layout", ["arrays", "folders"])
def test_checksums_tell_severities_and_contents_apart(layout, request):
    folder = request.getfixturevalue(layout)
    sums = [the_set(folder).find("fog", severity).checksum for severity in range(1, 6)]
    if layout == "arrays":
        assert len(set(sums)) == 5
        pixels = np.load(folder / "fog.npy")
        pixels[0, 0, 0, 0] += 1
        np.save(folder / "fog.npy", pixels)
    else:
        Image.effect_noise((SIDE, SIDE), 64).save(folder / "fog" / "1" / CLASSES[0] / "a.JPEG")
    assert the_set(folder).find("fog", 1).checksum != sums[0]


def test_published_files_are_known_by_their_md5(arrays, monkeypatch):
    for name in ("fog", "labels"):
        digest = hashlib.md5((arrays / f"{name}.npy").read_bytes()).hexdigest()
        monkeypatch.setitem(PUBLISHED, name, digest)
    assert the_set(arrays, strict=True).find("fog", 1).source == "official"
    assert the_set(arrays).find("contrast", 1).source == "files"
    message = r"contrast\.npy is not the published file \(its md5 does not match\); download the"
    with pytest.raises(SelbenchError, match=message):
        the_set(arrays, strict=True).find("contrast", 1)


def test_other_labels_than_the_published_are_not_official(arrays, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "fog", md5_of(arrays / "fog.npy"))
    with pytest.raises(SelbenchError, match=r"labels\.npy is not the published file"):
        the_set(arrays, strict=True).find("fog", 1)


def test_a_set_that_selbench_made_says_so(arrays, folders):
    about().write(arrays)
    assert the_set(arrays).find("fog", 1).source == "files, generated"
    parts = {"fog": Part(version=1, variant="procedural", finished=(1, 2))}
    about(layout="folder", parts=parts).write(folders)
    assert the_set(folders).find("fog", 1).source == "files, generated, JPEG files (procedural)"
    with pytest.raises(SelbenchError, match=r"fog/3 is not finished; run the same `selbench corr"):
        the_set(folders).find("fog", 3)


def test_a_set_with_some_severities_has_only_those(arrays):
    about(severities=(2, 5)).write(arrays)
    assert list(the_set(arrays).severities) == [2, 5]
    split = the_set(arrays).find("fog", 5).load()
    block = np.load(arrays / "fog.npy")[15:]
    assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), block)


def test_a_downloaded_tiny_imagenet_c_is_official_but_unpaired(folders):
    (folders / RECEIPT).touch()
    source = the_set(folders).find("fog", 1).source
    assert source == "official: other pictures than the clean ones"


def test_a_tree_like_tiny_imagenet_c_is_official_but_not_checked(tmp_path):
    classes = tuple(f"n{number:03}" for number in range(200))
    for name in classes:
        place = tmp_path / "fog" / "1" / name
        place.mkdir(parents=True)
        for number in range(50):
            (place / f"{number}.JPEG").touch()
    stored = CorruptedSet(tmp_path, classes, (SIDE, SIDE)).find("fog", 1)
    assert stored.source == "official, not checked: other pictures than the clean ones"
    assert stored.images == 10_000


def test_an_md5_is_computed_once_for_an_unchanged_file(arrays, monkeypatch):
    path = arrays / "fog.npy"
    first = md5_of(path)
    assert first == hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(reading.hashlib, "file_digest", None)
    assert md5_of(path) == first


def cut_off(folder):
    content = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(content[:-100])


def not_numpy(folder):
    (folder / "fog.npy").write_text("fog")


def no_bytes(folder):
    (folder / "fog.npy").write_bytes(b"")


def pickled(folder):
    np.save(folder / "fog.npy", np.array([{}], object), allow_pickle=True)


def floats(folder):
    np.save(folder / "fog.npy", np.zeros((10, SIDE, SIDE, 3)))


def grey(folder):
    np.save(folder / "fog.npy", np.zeros((5 * IMAGES, SIDE, SIDE, 1), np.uint8))


def odd_number(folder):
    np.save(folder / "fog.npy", np.zeros((5 * IMAGES + 1, SIDE, SIDE, 3), np.uint8))


def other_size(folder):
    np.save(folder / "fog.npy", np.zeros((5 * IMAGES, SIDE, 9, 3), np.uint8))


def few_labels(folder):
    np.save(folder / "labels.npy", np.zeros(29, np.uint8))


def strange_label(folder):
    np.save(folder / "labels.npy", np.full(30, 3, np.uint8))


def no_labels(folder):
    (folder / "labels.npy").unlink()


def no_corruption(folder):
    (folder / "fog.npy").unlink()


SPOILT = {
    cut_off: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    not_numpy: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    no_bytes: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    pickled: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    floats: r"fog\.npy holds no array of integers with 4 axes$",
    grey: r"fog\.npy holds uint8 of shape \(30, 8, 8, 1\); expected are uint8 of shape \(n, height",
    odd_number: r"fog\.npy holds uint8 of shape \(31, .*, n a multiple of the 5 severities$",
    other_size: r"images of .*fog\.npy are 9 x 8 pixels, the data set's 8 x 8; take the set that",
    few_labels: r"labels\.npy holds 29 labels for the 30 images of fog\.npy; get both from one set",
    strange_label: r"labels\.npy names class 3, the data set has the classes 0 to 2$",
    no_labels: r"labels\.npy is missing; get the whole set$",
    no_corruption: r"CIFAR-10-C holds neither fog\.npy nor a folder fog; choose among its",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_file_is_named(spoil, arrays):
    spoil(arrays)
    with pytest.raises(SelbenchError, match=SPOILT[spoil]):
        the_set(arrays).find("fog", 2)


def test_a_missing_severity_is_named(folders):
    place = folders / "fog" / "4"
    place.rename(folders / "elsewhere")
    message = rf"^the folder {place} of severity 4 is missing; get the whole set$"
    with pytest.raises(SelbenchError, match=message):
        the_set(folders).find("fog", 4)


@pytest.mark.parametrize(
    ("classes", "missing"), [((*CLASSES, "digit-3"), "digit-3"), (CLASSES[:2], "digit-2")]
)
def test_other_classes_than_the_data_set_s_are_refused(folders, classes, missing):
    place = folders / "fog" / "1"
    with pytest.raises(SelbenchError, match=rf"the class {missing} is in only one of {place} and"):
        CorruptedSet(folders, classes, (SIDE, SIDE)).find("fog", 1)


def test_other_sizes_than_the_data_set_s_are_refused(folders):
    stored = CorruptedSet(folders, CLASSES, (16, 16)).find("fog", 1)
    with pytest.raises(SelbenchError, match=r"fog/1 are 8 x 8 pixels, the data set's 16 x 16"):
        stored.load()


def test_a_damaged_account_of_a_set_is_named(arrays):
    (arrays / ABOUT).write_text('{"format": 7}')
    with pytest.raises(SelbenchError, match=r"selbench-set\.json is damaged or of another version"):
        the_set(arrays).find("fog", 1)


def test_official_sets_belong_to_their_data_sets(fresh_home):
    message = r"CIFAR-10-C is missing; run `selbench download cifar10-c`, or name the folder"
    with pytest.raises(SelbenchError, match=message):
        official_folder("cifar10")
    (home() / "datasets" / "CIFAR-10-C").mkdir(parents=True)
    assert official_folder("cifar10") == home() / "datasets" / "CIFAR-10-C"
    with pytest.raises(SelbenchError, match="no official corrupted set belongs to the data set fo"):
        official_folder("folder")


# As users meet them.


def write_set(root, names=("fog", "contrast")):
    """Corrupt the test images of a study's folder into the layout of CIFAR-10-C."""
    from corruptions import corrupt
    from selbench.datasets import DATASETS
    from selbench.progress import SILENT

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
    words = (tiny_study, "--suite", "corruptions", "--corruption", "fog,contrast")
    made = accuracies(selbench, *words)
    write_set(tmp_path / "stored")
    both = accuracies(selbench, *words, "--source", "stored")
    assert set(both["source"]) == {"generated", "files"}
    stored = both[both["source"] == "files"]
    keys = ["condition", "level", "subject"]
    ours, theirs = (part.set_index(keys)["value"].sort_index() for part in (made, stored))
    assert ours.equals(theirs)
    board = selbench("run", *words, "--source", "stored").out
    assert "2 corruptions, 10 conditions with their severities (files)" in " ".join(board.split())
    again = selbench("run", *words).out
    assert "severities (generated)" in " ".join(again.split())


def test_a_set_on_disk_is_limited_like_the_test_images(selbench, tiny_study, tmp_path):
    words = (tiny_study, "--suite", "corruptions", "--corruption", "fog", "--limit", "6")
    made = accuracies(selbench, *words)
    write_set(tmp_path / "stored", ["fog"])
    both = accuracies(selbench, *words, "--source", "stored")
    stored = both[both["source"] == "files"]
    assert set(stored["n"]) == {6}
    assert sorted(made["value"]) == sorted(stored["value"])


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
    sentence = refused("run", tiny_study, "--suite", "corruptions", "--source", "stored")
    assert "stored holds neither gaussian_noise.npy nor a folder gaussian_noise" in sentence
    assert not (fresh_home / "weights").exists()


def test_the_published_md5s_are_of_all_corruptions():
    assert set(PUBLISHED) == {*CORRUPTIONS, "labels"}
