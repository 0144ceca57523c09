"""Where image files may lie, the same for data sets and `selbench corrupt`."""

import shutil
import unicodedata
from pathlib import Path

import pytest
import torch
from loading import WNIDS, load
from PIL import Image

from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT
from selbench.datasets import DATASETS
from selbench.datasets.tree import read_tree
from selbench.sets.reading import CorruptedSet
from selbench.sets.source import open_source


def opened(root):
    """Return the images of a folder as both doors see them, and compare the two."""
    data, source = DATASETS["folder"](root, SILENT), open_source(str(root), None, SILENT)
    assert source.classes == data.classes
    assert torch.equal(source.labels, data.test.labels)
    assert torch.equal(source.read(range(len(source))), data.test.images)
    assert source.survey().checksum == data.test.checksum
    return data


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_are_the_test_images_where_there_are_no_others(name, image_tree):
    root = image_tree()
    expected = opened(root)
    (root / "test").rename(root / name)
    assert opened(root).test.checksum == expected.test.checksum
    (root / "test").mkdir()  # of pictures without labels, as competitions have it
    Image.new("RGB", (32, 32)).save(root / "test" / "0.png")
    assert opened(root).test.checksum == expected.test.checksum


@pytest.mark.parametrize("where", ["test", "val", "."])
def test_networks_that_are_only_evaluated_need_no_training_images(where, image_tree):
    root = image_tree()
    expected = opened(root).test.checksum
    (root / "train").rename(root.parent / "unused")
    (root / "test").rename(root.parent / "part")
    root = root if where == "." else root / where
    (root / ".selbench.safetensors").unlink(missing_ok=True)
    root.rmdir() if where == "." else None
    (root.parent / "part" if where == "." else root.parent.parent / "part").rename(root)
    data = opened(root if where == "." else root.parent)
    assert (len(data.train), data.test.checksum) == (0, expected)
    with pytest.raises(SelbenchError, match=r"^the data set folder has no training images, which"):
        _ = data.moments
    assert load("folder", root if where == "." else root.parent).test.checksum == expected


def test_a_class_may_be_named_like_a_part(image_tree):
    root = image_tree() / "test"
    (root / "digit-1").rename(root / "train")
    (root / "digit-2").rename(root / "val")
    assert opened(root).classes == ("digit-0", "train", "val")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_written_in_two_ways_are_one_class(form, image_tree):
    root = image_tree()
    expected = opened(root)
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    for part, written in (("train", form), ("test", other)):
        (root / part / "digit-1").rename(root / part / unicodedata.normalize(written, "digit-é"))
    data = opened(root)
    assert data.classes == ("digit-0", "digit-2", "digit-é")
    assert data.test.labels.bincount().tolist() == expected.test.labels.bincount().tolist()
    for split in ("train", "test"):
        by_class = getattr(data, split).images[getattr(data, split).labels == 2]
        before = getattr(expected, split)
        assert torch.equal(by_class, before.images[before.labels == 1])


def test_classes_written_in_two_ways_in_one_part_are_refused(image_tree):
    root = image_tree()
    for number, form in enumerate(("NFC", "NFD")):
        name = unicodedata.normalize(form, "é")
        (root / "test" / f"digit-{number}").rename(root / "test" / name)
    with pytest.raises(SelbenchError, match=r"two class folders in .* are named é, .* merge them"):
        opened(root)


def test_the_validation_folder_of_tiny_imagenet_has_the_labels_of_its_file(
    tiny_imagenet_tree, fresh_home
):
    expected = load("tiny-imagenet", tiny_imagenet_tree).test
    for root in (tiny_imagenet_tree / "val", tiny_imagenet_tree):
        source = open_source(str(root), None, SILENT)
        assert source.classes == tuple(sorted(WNIDS))
        assert torch.equal(source.labels, expected.labels)
        assert source.survey().checksum == expected.checksum
    (tiny_imagenet_tree / "test" / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tiny_imagenet_tree / "test" / "images" / "test_0.JPEG")
    assert open_source(str(tiny_imagenet_tree), None, SILENT).survey().checksum == expected.checksum
    opened(tiny_imagenet_tree / "val")
    with pytest.warns(UserWarning, match="^3 files are left out of .*_boxes.txt"):
        data = DATASETS["folder"](tiny_imagenet_tree, SILENT)
    assert data.test.checksum == expected.checksum
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("layout", ["npy", "folder"])
def test_a_set_made_of_tiny_imagenet_s_folder_belongs_to_the_data_set(
    layout, tiny_imagenet_tree, selbench
):
    words = ("--corruption", "brightness", "--severity", "1", "--format", layout)
    assert selbench("corrupt", tiny_imagenet_tree / "val", "set", *words).code == 0
    data = load("tiny-imagenet", tiny_imagenet_tree)
    (stored,) = (
        CorruptedSet(Path("set").absolute(), data.classes, data.test).find("brightness").values()
    )
    assert stored.paired
    assert torch.equal(stored.split().labels, data.test.labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"val_0.JPEG\tn01443537\nval_0.JPEG\tn02124075\n", "names an image twice; unpack"),
        (b"\xff\xfe\n", ", line 1 names no image and class; unpack the archive again"),
    ],
)
def test_damaged_annotations_are_named(text, message, tiny_imagenet_tree):
    (tiny_imagenet_tree / "val" / "val_annotations.txt").write_bytes(text)
    with pytest.raises(SelbenchError, match=rf"val_annotations\.txt ?{message}"):
        open_source(str(tiny_imagenet_tree), None, SILENT)


def test_links_are_followed_but_not_in_circles(image_tree, tmp_path):
    root = image_tree()
    expected = opened(root).test.checksum
    (root / "test" / "digit-1").rename(tmp_path / "elsewhere")
    (root / "test" / "digit-1").symlink_to(tmp_path / "elsewhere")
    assert opened(root).test.checksum == expected
    (root / "test" / "digit-0" / "loop").symlink_to(root / "test")
    with pytest.warns(UserWarning, match="^1 file is left out of .*: test/digit-0/loop/$"):
        assert DATASETS["folder"](root, SILENT).test.checksum == expected
    (root / "test" / "digit-0" / "loop").unlink()
    (root / "test" / "digit-0" / "self.png").symlink_to("self.png")
    with pytest.raises(SelbenchError, match=r"self\.png cannot be read \(Too many levels"):
        DATASETS["folder"](root, SILENT)


def test_an_empty_class_is_named(image_tree):
    root = image_tree()
    (root / "test" / "digit-9").mkdir()
    (root / "test" / "digit-9" / "a.heic").touch()
    message = r"digit-9 holds no images that Pillow reads \(there is a\.heic\); add some or remove"
    for door in (lambda: DATASETS["folder"](root, SILENT), lambda: opened(root)):
        with pytest.raises(SelbenchError, match=message):
            door()


def test_a_set_whose_classes_are_written_otherwise_belongs_to_the_data_set(image_tree, selbench):
    root = image_tree()
    for part in ("train", "test"):
        (root / part / "digit-1").rename(root / part / unicodedata.normalize("NFD", "é"))
    words = ("--corruption", "brightness", "--severity", "1", "--format", "folder")
    assert selbench("corrupt", root, "set", *words).code == 0
    data = DATASETS["folder"](root, SILENT)
    classes = tuple(unicodedata.normalize("NFD", name) for name in data.classes)
    (stored,) = CorruptedSet(Path("set").absolute(), classes, data.test).find("brightness").values()
    assert stored.paired


def test_a_network_whose_normalisation_is_given_needs_no_training_images(
    image_tree, selbench, refused
):
    from selbench.models import build_model
    from selbench.study import ModelSpec

    root = image_tree() / "test"
    torch.manual_seed(0)
    model = build_model(ModelSpec(name="resnet8"), 3, ((0.5,) * 3, (0.2,) * 3))
    torch.save(model.network.state_dict(), "bare.pth")
    words = ["--dataset", "folder", "--data", root, "--suite", "clean", "--quiet"]
    words = ["run", "--model", "selbench:resnet8", "--weights", "bare.pth", *words]
    assert "has no training images" in refused(*words)
    assert selbench(*words, "--mean", ".5,.5,.5", "--std", ".2,.2,.2").code == 0


def test_folders_of_images_beside_the_test_images_are_told(image_tree, tmp_path):
    root = image_tree(classes=2, train=1, test=1)
    (root / "test").rename(root / "val")
    (root / "train").rename(tmp_path / "train")
    (root / "notes").mkdir()
    for name in ("digit-0", "digit-1"):
        shutil.copytree(tmp_path / "train" / name, root / name)
    sentence = (
        rf"^the test images are those of {root}/val; other folders of images are left out: "
        "digit-0, digit-1$"
    )
    with pytest.warns(UserWarning, match=sentence):
        assert len(DATASETS["folder"](root, SILENT).test) == 2


@pytest.mark.parametrize("folder", ["a", "."])
def test_listing_takes_time_in_proportion_to_the_number_of_files(folder, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir(exist_ok=True)
    for number in range(50):
        for suffix in ("png", "txt"):
            (tmp_path / folder / f"{number}.{suffix}").touch()
    compared, hashed = [], type(tmp_path).__hash__
    monkeypatch.setattr(type(tmp_path), "__hash__", lambda path: compared.append(1) or hashed(path))
    tree = read_tree(tmp_path)
    assert (len(tree.files), len(tree.left)) == (50, 50)
    assert len(compared) <= 3 * 100
