"""Folders of images: what is read, in which order, and when it is read anew."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import CIFAR10_CLASSES, assert_equal, load
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from selbench.datasets import cache, folder


def test_folder_takes_classes_and_files_in_alphabetical_order(image_tree):
    root = image_tree(classes=3, train=4, test=2)
    data = load("folder", root)
    assert data.classes == ("digit-0", "digit-1", "digit-2")
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    paths = sorted((root / "test").glob("*/*.png"))
    for path, image in zip(paths, data.test.images, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg", "jpeg", "ppm", "webp", "PNG"])
def test_folder_reads_the_usual_formats(suffix, image_tree):
    data = load("folder", image_tree(classes=2, train=2, test=2, suffix=suffix))
    assert len(data.train) == 4


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK"])
def test_folder_turns_every_mode_into_rgb(mode, image_tree):
    root = image_tree(classes=2, train=1, test=1)
    path = root / "test" / "digit-1" / "0000.png"
    original = Image.open(path).convert(mode)
    if mode == "CMYK":
        path.unlink()
        path = path.with_suffix(".jpg")
    original.save(path)
    image = load("folder", root).test.images[1].permute(1, 2, 0).numpy()
    assert np.array_equal(image, np.asarray(Image.open(path).convert("RGB")))


def test_folder_passes_over_what_is_no_image(image_tree):
    root = image_tree(classes=2, train=2, test=2)
    (root / "train" / "digit-0" / "readme.txt").write_text("about")
    (root / "train" / "digit-0" / "._0000.png").write_bytes(b"of another system")
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "list.csv").touch()
    for litter in ("Thumbs.db", "__MACOSX", ".DS_Store"):
        (root / "train" / "digit-0" / litter).mkdir()
        (root / "train" / litter).mkdir()
    (root / "test" / "digit-1" / "more").mkdir()
    (root / "test" / "digit-1" / "photo.heic").touch()
    line = (
        f"^4 files are left out of {root}, as Pillow reads no images there: train/list.csv, "
        "train/digit-0/readme.txt, test/digit-1/more/ and 1 more$"
    )
    with pytest.warns(UserWarning, match=line) as told:
        data = load("folder", root)
    assert len(told) == 1
    assert data.classes == ("digit-0", "digit-1")
    assert len(data.train) == 4


def test_folder_decodes_real_photographs_as_pil_does(cifar10_test):
    data = load("folder", cifar10_test)
    assert data.classes == CIFAR10_CLASSES
    assert data.test.labels.bincount().tolist() == [50] * 10
    paths = sorted((cifar10_test / "test").glob("*/*.jpg"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), pixels)


# What is kept.


def test_folder_keeps_its_cache_beside_the_images(tree):
    assert Path("images/.selbench.safetensors").is_file()


def test_folder_that_cannot_be_written_is_cached_at_home(image_tree, fresh_home, monkeypatch):
    root = image_tree()
    monkeypatch.setattr(folder, "writable", lambda path: False)
    first = load("folder", root)
    (kept,) = (fresh_home / "datasets").iterdir()
    assert kept.name.startswith("folder-")
    assert not (root / ".selbench.safetensors").exists()
    monkeypatch.setattr(cache, "each_decoded", None)
    assert_equal(load("folder", root), first)


def rewritten(root):
    Image.new("RGB", (32, 32), "red").save(root / "test" / "digit-2" / "0005.png")


def removed(root):
    (root / "train" / "digit-0" / "0000.png").unlink()


def added(root):
    Image.new("RGB", (32, 32), "red").save(root / "train" / "digit-0" / "new.png")


def renamed(root):
    for part in ("train", "test"):
        (root / part / "digit-0").rename(root / part / "zero")


@pytest.mark.parametrize("change", [rewritten, removed, added, renamed])
@pytest.mark.sample
def test_folder_is_decoded_anew_when_a_file_changes(change, tree, image_tree):
    change(Path("images"))
    again = load("folder", Path("images"))
    Path("images/.selbench.safetensors").unlink()
    assert_equal(again, load("folder", Path("images")))
    assert (again.classes, again.train.checksum, again.test.checksum) != (
        tree.classes,
        tree.train.checksum,
        tree.test.checksum,
    )


def test_folder_is_decoded_anew_when_a_file_of_equal_size_takes_another_s_place(image_tree):
    root = image_tree(suffix="bmp")
    before = load("folder", root)
    path, other = root / "test" / "digit-0" / "0000.bmp", root / "test" / "digit-1" / "0000.bmp"
    modified = path.stat().st_mtime_ns
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(modified, modified + 1))  # clocks are too coarse to rely on
    again = load("folder", root)
    assert not torch.equal(again.test.images[0], before.test.images[0])
    assert torch.equal(again.test.images[0], before.test.images[6])


def rewrite(path, content):
    """Write another file of that name: the images that were read are mapped from the old one."""
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 1000, -1])
@pytest.mark.sample
def test_truncated_cache_is_made_anew(kept, tree, monkeypatch):
    path = Path("images/.selbench.safetensors")
    whole = path.read_bytes()
    rewrite(path, whole[:kept])
    assert_equal(load("folder", Path("images")), tree)
    monkeypatch.setattr(cache, "each_decoded", None)
    assert_equal(load("folder", Path("images")), tree)


@pytest.mark.parametrize("step", [67, pytest.param(11, marks=pytest.mark.soak)])
def test_cache_damaged_in_any_byte_is_made_anew_or_read_right(image_tree, step):
    root = image_tree(classes=2, train=2, test=1, side=8)
    whole_data = load("folder", root)
    path = root / ".selbench.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[place] ^= 1 + place % 15
        rewrite(path, damaged)
        assert_equal(load("folder", root), whole_data)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"I64"', b'"F64"'), (b'"U8"', b'"I8"'), (b"digit-1", b"digit-7"), (b"classes", b"clauses")],
)
def test_cache_with_another_header_is_made_anew(old, new, tree):
    path = Path("images/.selbench.safetensors")
    assert old in path.read_bytes()
    rewrite(path, path.read_bytes().replace(old, new))
    assert_equal(load("folder", Path("images")), tree)


def classes_that_are_a_number(tensors, about):
    about["classes"] = "5"


def images_of_three_axes(tensors, about):
    tensors["train_images"] = tensors["train_images"][0]


def images_of_one_channel(tensors, about):
    tensors["test_images"] = tensors["test_images"][..., :1].contiguous()


def labels_of_two_axes(tensors, about):
    tensors["test_labels"] = tensors["test_labels"][None]


def fewer_labels(tensors, about):
    tensors["train_labels"] = tensors["train_labels"][1:].clone()


def no_images(tensors, about):
    for name in tensors:
        tensors[name] = tensors[name][:0].clone()


@pytest.mark.parametrize(
    "spoil",
    [
        classes_that_are_a_number,
        images_of_three_axes,
        images_of_one_channel,
        labels_of_two_axes,
        fewer_labels,
        no_images,
    ],
)
def test_cache_that_is_not_ours_is_made_anew(spoil, tree):
    path = Path("images/.selbench.safetensors")
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    spoil(tensors, about)
    path.unlink()
    save_file(tensors, path, about)
    assert_equal(load("folder", Path("images")), tree)


def test_cache_holds_a_format_and_says_what_it_was_made_from(tree):
    with safe_open("images/.selbench.safetensors", framework="pt") as file:
        assert set(file.metadata()) >= {"format", "stamp", "classes", "checksums"}
