"""ImageNet's validation images as people have them, on miniature trees."""

import shutil
import sys

import numpy as np
import pytest
import torch
from loading import assert_equal, photographs
from PIL import Image
from scipy.io import savemat

from selbench._kit.errors import SelbenchError
from selbench.datasets import imagenet, load_dataset
from selbench.study import DatasetSpec

WNIDS = ("n01440764", "n02123045", "n15075141")
TRUTH = (2, 0, 1, 2, 1, 0)  # sorted numbers of the classes of images 1 to 6
IDS = (7, 3, 12)  # the devkit's numbers of the classes
NAMES = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 7)]
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@pytest.fixture(autouse=True)
def miniature(monkeypatch, fresh_home):
    """Take three classes of two images for all of ImageNet."""
    monkeypatch.setattr(imagenet, "CLASSES", 3)
    monkeypatch.setattr(imagenet, "IMAGES", 6)


@pytest.fixture
def classified(tmp_path):
    """Write val/<WordNet id>/*, of many sizes."""
    for seed, (name, label) in enumerate(zip(NAMES, TRUTH, strict=True)):
        place = tmp_path / "classified" / "val" / WNIDS[label] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photographs(20 + seed, 26 - seed, seed=seed)).save(place)
    return tmp_path / "classified"


@pytest.fixture
def flat(classified, tmp_path):
    """Write the same images into one folder, with the devkit's ground truth."""
    root = tmp_path / "flat"
    (root / "val").mkdir(parents=True)
    for path in classified.rglob("*.JPEG"):
        shutil.copy(path, root / "val")
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / GROUND_TRUTH).write_text("".join(f"{IDS[label]}\n" for label in TRUTH))
    rows = [*zip(IDS, WNIDS, (0, 0, 0), strict=True), (1001, "n00001740", 3)]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    savemat(data / "meta.mat", {"synsets": np.array(rows, kinds)})
    return root


def load(root, name="imagenet"):
    return load_dataset(DatasetSpec(name=name, root=root, validation=1, resize=18, crop=16))


def test_images_are_numbered_by_sorted_wordnet_id(classified):
    data = load(classified)
    assert data.classes == WNIDS
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test.images.shape == (6, 3, 16, 16)
    assert len(data.train) == 0
    with pytest.raises(SelbenchError, match=r"^the data set imagenet has no training images"):
        _ = data.moments


def as_val(root):
    return root / "val"


def kaggle(root):
    shutil.rmtree(root / "ILSVRC2012_devkit_t12")
    lines = [f"{name[:-5]},{WNIDS[n]} 1 2 3 4 \n" for name, n in zip(NAMES, TRUTH, strict=True)]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(lines))
    (root / "ILSVRC" / "Data" / "CLS-LOC").mkdir(parents=True)
    (root / "val").rename(root / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    return root


def synsets(root):
    shutil.rmtree(root / "ILSVRC2012_devkit_t12")
    name = "imagenet_2012_validation_synset_labels.txt"
    (root / name).write_text("".join(f"{WNIDS[label]}\n" for label in TRUTH))
    return root


@pytest.mark.parametrize("form", [lambda root: root, kaggle, synsets])
def test_every_form_is_the_same_data_set(form, classified, flat):
    assert_equal(load(form(flat)), load(classified))
    assert_equal(load(as_val(classified)), load(classified))


def test_a_list_chooses_images(classified, flat):
    chosen = [f"{WNIDS[TRUTH[place]]}/{NAMES[place]}" for place in (4, 0)]
    for root in (classified, flat):
        (root / "some.txt").write_text("\n".join(chosen))
        data = load(root / "some.txt")
        assert data.classes == WNIDS
        assert data.test.labels.tolist() == [1, 2]
        assert torch.equal(data.test.images, load(root).test.images[[3, 5 - (NAMES[0] < NAMES[3])]])


def test_robustbench_s_list_is_read_from_its_package(classified, tmp_path, monkeypatch):
    place = tmp_path / "packages" / "robustbench"
    (place / "helper_files").mkdir(parents=True)
    (place / "__init__.py").write_text("raise ImportError('not to be imported')")
    line = f"{WNIDS[1]}/{NAMES[2]}\n"
    (place / "helper_files" / "imagenet_test_image_ids.txt").write_text(line)
    monkeypatch.setattr(sys, "path", [str(place.parent), *sys.path])
    monkeypatch.delitem(sys.modules, "robustbench", raising=False)
    data = load(classified, "imagenet-robustbench")
    assert data.name == "imagenet-robustbench"
    assert data.test.labels.tolist() == [1]
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    with pytest.raises(
        SelbenchError, match=r"^the package robustbench, .* is not installed.*--data$"
    ):
        load(classified, "imagenet-robustbench")


def test_images_that_are_missing_are_counted(classified):
    next(classified.rglob("*.JPEG")).unlink()
    with pytest.warns(UserWarning, match=r"classified holds 5 validation images, ImageNet has 6$"):
        load(classified)


def without(*parts):
    def spoil(root):
        root.joinpath(*parts).unlink()

    return spoil


def written(name, text):
    def spoil(root):
        (root / "ILSVRC2012_devkit_t12" / "data" / name).write_text(text)

    return spoil


DEVKIT = ("ILSVRC2012_devkit_t12", "data")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: shutil.rmtree(root / "val"), r"flat holds no validation images of ImageNet;"),
        (without(*DEVKIT, GROUND_TRUTH), "and what their classes are is not there; put ILSVRC2012"),
        (without(*DEVKIT, "meta.mat"), r"meta.mat is missing, which says what the numbers of ILSV"),
        (written("meta.mat", "no matrices"), r"meta.mat is damaged"),
        (written(GROUND_TRUTH, "7\n3\n"), r"truth.txt says no class of .*00000003.JPEG; get the"),
        (written(GROUND_TRUTH, "7\n3\n9\n7\n3\n12\n"), r"truth.txt is damaged.*'9' is no class"),
        (written(GROUND_TRUTH, ""), r"truth.txt is damaged.*it is empty"),
        (written(GROUND_TRUTH, "7\n" * 6), r"flat has images of 1 classes, ImageNet of 3; get"),
    ],
)
def test_what_is_not_there_is_named(spoil, message, flat):
    spoil(flat)
    with pytest.raises(SelbenchError, match=message):
        load(flat)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n01440764/other.JPEG", r"some.txt names 1 images that are not there \(other.JPEG\)"),
        ("", "some.txt names none; get them, or give another list"),
        (f"{WNIDS[1]}/{NAMES[0]}", r"is of class n02123045, and it is of n15075141; the images or"),
    ],
)
def test_a_list_of_another_data_set_is_refused(line, message, classified):
    (classified / "some.txt").write_text(line)
    with pytest.raises(SelbenchError, match=message):
        load(classified / "some.txt")
