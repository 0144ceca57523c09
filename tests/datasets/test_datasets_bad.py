"""Bad data is told in a sentence that names it."""

import os
import struct
import zlib

import pytest
from loading import WNIDS, load
from PIL import Image

from selbench._kit.errors import SelbenchError


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(SelbenchError, match="unknown dataset 'digit'; did you mean 'digits'"):
        load("digit")


def test_validation_must_leave_training_images(image_tree):
    with pytest.raises(
        SelbenchError, match="validation = 48 leaves none of the 48 training images"
    ):
        load("folder", image_tree(), validation=48)


def test_more_classes_than_there_are_are_refused(image_tree):
    message = r"^dataset\.classes = 4, and folder has 3; leave it out to take all$"
    with pytest.raises(SelbenchError, match=message):
        load("folder", image_tree(), classes=4)


def test_folder_needs_a_root():
    with pytest.raises(SelbenchError, match=r'dataset "folder" needs dataset\.root'):
        load("folder")


def test_missing_test_images_say_where_to_put_them(image_tree):
    root = image_tree()
    (root / "test").rename(root / "elsewhere")
    with pytest.raises(
        SelbenchError, match=rf"{root / 'test'} is missing; put test images there as test/"
    ):
        load("folder", root)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(SelbenchError, match=f"^there is no folder {tmp_path / 'gone'}; put images"):
        load("folder", tmp_path / "gone")


def test_link_to_nothing_is_named(image_tree):
    root = image_tree()
    link = root / "train" / "digit-1" / "gone.png"
    link.symlink_to(root / "nowhere.png")
    message = rf"^{link} cannot be read \(No such file or directory\); delete or repair it$"
    with pytest.raises(SelbenchError, match=message):
        load("folder", root)


def test_one_class_is_too_few(image_tree):
    root = image_tree(classes=1)
    with pytest.raises(SelbenchError, match="holds 1 class folders; a classifier needs at least 2"):
        load("folder", root)


@pytest.mark.parametrize("part", ["train", "test"])
def test_class_of_one_part_alone_is_named(part, image_tree):
    root = image_tree()
    (root / part / "digit-1").rename(root / part / "one")
    (root / part / "one").rename(root / part / "digit-1")
    (root / part / "strange").mkdir()
    Image.new("RGB", (32, 32)).save(root / part / "strange" / "0.png")
    with pytest.raises(SelbenchError, match="the class folder strange is in only one of"):
        load("folder", root)


def bomb(path):
    """Write a PNG whose header promises 30,000 x 30,000 pixels."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def large(path):
    Image.new("RGB", (5000, 1)).save(path)


def text(path):
    path.write_text("no image")


def empty(path):
    path.write_bytes(b"")


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def directory(path):
    path.unlink()
    path.mkdir()


UNUSABLE = {
    text: r"cannot be decoded as an image \(.*\); repair or remove it",
    empty: r"cannot be decoded as an image \(.*\); repair or remove it",
    half: r"cannot be decoded as an image \(.*\); repair or remove it",
    directory: "it is a folder; name a regular file",
    pipe: "it is a pipe; name a regular file",
    large: r"is larger than 4096 pixels; shrink or remove it",
    bomb: r"is larger than 4096 pixels; shrink or remove it",
}


@pytest.mark.parametrize("spoil", UNUSABLE)
@pytest.mark.parametrize("number", [0, 3])
def test_unusable_image_is_named(spoil, number, image_tree):
    root = image_tree()
    path = root / "train" / "digit-0" / f"{number:04}.png"
    spoil(path)
    with pytest.raises(SelbenchError, match=f"{path}:? {UNUSABLE[spoil]}$"):
        load("folder", root)
    assert not (root / ".selbench.safetensors").exists()


@pytest.mark.parametrize("part", ["train", "test"])
def test_odd_sized_image_is_named(part, image_tree):
    root = image_tree()
    path = root / part / "digit-2" / "0004.png"
    Image.new("RGB", (32, 31)).save(path)
    with pytest.raises(SelbenchError, match=rf"{path} is 32 x 31 pixels, .*0000.png is 32 x 32;"):
        load("folder", root)


def test_training_and_test_images_must_have_one_size(image_tree):
    root = image_tree()
    (root / "test").rename(root / "unused")
    (image_tree("other", side=16) / "test").rename(root / "test")
    with pytest.raises(SelbenchError, match=r"train.* 32 x 32 .*test.* 16 x 16.* one size"):
        load("folder", root)


def test_cifar10_that_is_absent_says_how_to_get_it(fresh_home, tmp_path):
    message = rf"{tmp_path}/cifar-10-batches-py is missing or damaged; run `selbench download cifar"
    with pytest.raises(SelbenchError, match=message):
        load("cifar10", tmp_path)


def test_tiny_imagenet_that_is_absent_says_how_to_get_it(fresh_home):
    place = fresh_home / "datasets" / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    with pytest.raises(
        SelbenchError, match=rf"{place} is missing; run `selbench download tiny-ima"
    ):
        load("tiny-imagenet")


def test_tiny_imagenet_without_a_class_names_it(tiny_imagenet_tree, fresh_home):
    (tiny_imagenet_tree / "train" / WNIDS[0]).rename(tiny_imagenet_tree / "elsewhere")
    with pytest.raises(SelbenchError, match=f"train lacks the class folder {WNIDS[0]}; unpack the"):
        load("tiny-imagenet", tiny_imagenet_tree)


def test_tiny_imagenet_without_training_images_says_so(tiny_imagenet_tree, fresh_home):
    (tiny_imagenet_tree / "train").rename(tiny_imagenet_tree / "elsewhere")
    with pytest.raises(SelbenchError, match="train is missing; unpack the archive again"):
        load("tiny-imagenet", tiny_imagenet_tree)


def test_tiny_imagenet_with_damaged_annotations_names_the_line(tiny_imagenet_tree, fresh_home):
    with (tiny_imagenet_tree / "val" / "val_annotations.txt").open("a") as file:
        file.write("val_9.JPEG n01443537\n")
    with pytest.raises(
        SelbenchError, match=r"val_annotations\.txt, line 5 .* unpack the archive again"
    ):
        load("tiny-imagenet", tiny_imagenet_tree)


def test_tiny_imagenet_without_annotations_says_so(tiny_imagenet_tree, fresh_home):
    (tiny_imagenet_tree / "val" / "val_annotations.txt").write_text("")
    with pytest.raises(
        SelbenchError, match=r"val_annotations\.txt is empty; unpack the archive again$"
    ):
        load("tiny-imagenet", tiny_imagenet_tree)


def test_tiny_imagenet_without_a_test_image_names_it(tiny_imagenet_tree, fresh_home):
    path = tiny_imagenet_tree / "val" / "images" / "val_2.JPEG"
    path.unlink()
    with pytest.raises(SelbenchError, match=f"^{path} cannot be decoded as an image"):
        load("tiny-imagenet", tiny_imagenet_tree)
