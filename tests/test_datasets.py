"""Data sets: what is in them, in which order, kept how; and that bad data is told in a sentence."""

import hashlib
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from selbench.datasets import (
    DATASETS,
    DOWNLOADS,
    Dataset,
    folder,
    load_dataset,
    split_validation,
    stratified_order,
)
from selbench.datasets.dataset import make_split
from selbench.errors import SelbenchError
from selbench.randomness import seeded
from selbench.study import DatasetSpec

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def load(name, root=None, validation=1):
    return load_dataset(DatasetSpec(name=name, root=root, validation=validation))


def photographs(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


# Small data sets in each format, as a user would have them.


@pytest.fixture
def digits(fresh_home):
    return load("digits")


@pytest.fixture
def tree(image_tree):
    return load("folder", image_tree())


@pytest.fixture
def cifar10_batches(tmp_path, monkeypatch):
    """Write 50 training and 10 test images in CIFAR-10's own format, and let their md5 count."""
    from torchvision.datasets import CIFAR10

    place = tmp_path / "cifar" / "cifar-10-batches-py"
    place.mkdir(parents=True)

    def write(name, content):
        data = pickle.dumps(content)
        (place / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name, seed):
        images = photographs(10, 32, 32, seed=seed)
        labels = [(number + seed) % 10 for number in range(10)]
        return write(name, {"data": images.transpose(0, 3, 1, 2).reshape(10, -1), "labels": labels})

    train = [batch(f"data_batch_{number}", number) for number in range(1, 6)]
    meta = write("batches.meta", {"label_names": list(CIFAR10_CLASSES)})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 6)])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]}
    )
    return tmp_path / "cifar"


@pytest.fixture
def cifar10(cifar10_batches, fresh_home):
    return load("cifar10", cifar10_batches)


WNIDS = ("n02124075", "n01443537", "n04067472")  # wnids.txt has an order of its own


@pytest.fixture
def tiny_imagenet_tree(tmp_path):
    """Write 3 classes of 2 training images, and 4 validation images, as the official archive."""
    root = tmp_path / "tiny-imagenet-200"
    for seed, wnid in enumerate(WNIDS):
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").touch()
        for number, image in enumerate(photographs(2, 64, 64, seed=seed)):
            path = root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
            Image.fromarray(image).save(path)
    (root / "val" / "images").mkdir(parents=True)
    labels = (WNIDS[0], WNIDS[1], WNIDS[2], WNIDS[1])
    lines = [f"val_{n}.JPEG\t{wnid}\t0\t32\t44\t62\n" for n, wnid in enumerate(labels)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    for number, image in enumerate(photographs(4, 64, 64, seed=9)):
        Image.fromarray(image).save(root / "val" / "images" / f"val_{number}.JPEG")
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    return root


@pytest.fixture
def tiny_imagenet(tiny_imagenet_tree, fresh_home):
    return load("tiny-imagenet", tiny_imagenet_tree)


FIXTURES = {
    "digits": "digits",
    "folder": "tree",
    "cifar10": "cifar10",
    "tiny-imagenet": "tiny_imagenet",
}


@pytest.fixture(params=FIXTURES)
def dataset(request):
    """Give each data set in turn, loaded from small files of its format."""
    return request.getfixturevalue(FIXTURES[request.param])


@pytest.fixture
def no_decoding(monkeypatch):
    """Let every decoder fail."""

    def fail(*arguments):
        raise AssertionError("decoded again")

    for module in ("cifar10", "digits", "tiny_imagenet"):
        monkeypatch.setattr(f"selbench.datasets.{module}._decode", fail)
    monkeypatch.setattr("selbench.datasets.folder.decode_images", fail)


# Laws.


def test_no_dataset_is_left_out():
    assert set(FIXTURES) == set(DATASETS)
    trained = {"cifar10", "tiny-imagenet"}
    assert trained <= set(DATASETS)
    assert set(DOWNLOADS) == trained | {f"{name}-c" for name in trained}


def test_images_are_uint8_in_channels_last_memory(dataset):
    for split in (dataset.train, dataset.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1] == 3
        assert split.images.is_contiguous(memory_format=torch.channels_last)


def test_labels_number_the_classes(dataset):
    for split in (dataset.train, dataset.test):
        assert split.labels.dtype == torch.int64
        assert len(split.labels) == len(split.images) == len(split)
        assert set(split.labels.tolist()) <= set(range(len(dataset.classes)))
    assert len(set(dataset.classes)) == len(dataset.classes)


def test_examples_count_the_images(dataset):
    assert dataset.train.examples.tolist() == list(range(len(dataset.train)))
    assert dataset.test.examples.tolist() == list(range(len(dataset.test)))


def test_moments_are_those_of_the_training_images(dataset):
    images = dataset.train.images.double() / 255
    mean, std = dataset.moments
    assert mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(images.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


@pytest.mark.parametrize("name", FIXTURES)
def test_decoding_is_done_once(name, request, monkeypatch):
    first = request.getfixturevalue(FIXTURES[name])
    request.getfixturevalue("no_decoding")
    roots = {"folder": "images", "cifar10": "cifar", "tiny-imagenet": "tiny-imagenet-200"}
    second = load(name, Path(roots[name]) if name in roots else None)
    assert_equal(first, second)


def assert_equal(one: Dataset, other: Dataset):
    assert one.classes == other.classes
    for part in ("train", "test"):
        a, b = getattr(one, part), getattr(other, part)
        assert a.checksum == b.checksum
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert a.images.stride() == b.images.stride()


def test_checksum_tells_images_labels_and_order_apart():
    images = torch.from_numpy(photographs(4, 8, 8)).permute(0, 3, 1, 2)
    labels = torch.tensor([0, 1, 0, 1])
    brighter = images.clone()
    brighter[0, 0, 0, 0] ^= 1
    flipped = images.permute(0, 1, 3, 2)
    variants = [
        (images, labels),
        (brighter, labels),
        (flipped, labels),
        (images, 1 - labels),
        (images.flip(0), labels.flip(0)),
        (images[:3], labels[:3]),
    ]
    assert len({make_split(*variant).checksum for variant in variants}) == len(variants)
    assert make_split(images.contiguous(), labels).checksum == make_split(images, labels).checksum


# Digits.


def test_digits_are_1200_to_train_and_597_to_test(digits):
    assert digits.train.images.shape == (1200, 3, 32, 32)
    assert digits.test.images.shape == (597, 3, 32, 32)
    assert digits.classes == tuple("0123456789")


def test_digits_hold_each_class_in_proportion(digits):
    train, test = (split.labels.bincount() for split in (digits.train, digits.test))
    assert (test - (train + test) * 597 / 1797).abs().max() < 1


def test_digits_are_scikit_learn_s_each_once(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.cat([digits.train.images, digits.test.images]).float()
    labels = torch.cat([digits.train.labels, digits.test.labels])
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    small = torch.from_numpy(bunch.images).float()[:, None] * 255 / 16
    # The four pixels round the middle of an original pixel: their mean is 5/8 of it, rest beside.
    large = torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear")[:, 0].round()
    distances = torch.cdist(images[:, 0].flatten(1), large.flatten(1))
    found = distances.argmin(1)
    assert (images[:, 0] - large[found]).abs().max() <= 1
    assert found.sort().values.tolist() == list(range(1797))
    assert torch.equal(labels, torch.from_numpy(bunch.target)[found])


def test_digits_are_the_same_for_everyone(digits):
    assert digits.test.checksum == "4a65930bdfe329cb"


# Folders of images.


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
    data = load("folder", root)
    assert data.classes == ("digit-0", "digit-1")
    assert len(data.train) == 4


def test_folder_decodes_real_photographs_as_pil_does(cifar10_test):
    data = load("folder", cifar10_test)
    assert data.classes == CIFAR10_CLASSES
    assert data.test.labels.bincount().tolist() == [50] * 10
    paths = sorted((cifar10_test / "test").glob("*/*.jpg"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), pixels)


def changed(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_folder_keeps_its_cache_beside_the_images(tree):
    assert Path("images/.selbench.safetensors").is_file()


def test_folder_that_cannot_be_written_is_cached_at_home(image_tree, fresh_home, monkeypatch):
    root = image_tree()
    monkeypatch.setattr(folder, "writable", lambda path: False)
    first = load("folder", root)
    (kept,) = (fresh_home / "datasets").iterdir()
    assert kept.name.startswith("folder-")
    assert not (root / ".selbench.safetensors").exists()
    monkeypatch.setattr(folder, "decode_images", None)
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


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 1000, -1])
def test_truncated_cache_is_made_anew(kept, tree, monkeypatch):
    cache = Path("images/.selbench.safetensors")
    whole = cache.read_bytes()
    cache.write_bytes(whole[:kept])
    assert_equal(load("folder", Path("images")), tree)
    monkeypatch.setattr(folder, "decode_images", None)
    assert_equal(load("folder", Path("images")), tree)


def test_cache_damaged_in_any_byte_is_made_anew_or_read_right(image_tree):
    root = image_tree(classes=2, train=2, test=1, side=8)
    whole_data = load("folder", root)
    cache = root / ".selbench.safetensors"
    whole = cache.read_bytes()
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 + place % 15
        cache.write_bytes(damaged)
        assert_equal(load("folder", root), whole_data)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"I64"', b'"F64"'), (b'"U8"', b'"I8"'), (b"digit-1", b"digit-7"), (b"classes", b"clauses")],
)
def test_cache_with_another_header_is_made_anew(old, new, tree):
    cache = Path("images/.selbench.safetensors")
    assert old in cache.read_bytes()
    cache.write_bytes(cache.read_bytes().replace(old, new))
    assert_equal(load("folder", Path("images")), tree)


def test_cache_holds_a_format_and_says_what_it_was_made_from(tree):
    with safe_open("images/.selbench.safetensors", framework="pt") as file:
        assert set(file.metadata()) >= {"format", "stamp", "classes", "checksums"}


# CIFAR-10 and Tiny ImageNet, in small files of the official formats.


def test_cifar10_holds_the_images_of_the_official_batches(cifar10):
    assert cifar10.classes == CIFAR10_CLASSES
    assert cifar10.train.images.shape == (50, 3, 32, 32)
    train = np.concatenate([photographs(10, 32, 32, seed=number) for number in range(1, 6)])
    assert np.array_equal(cifar10.train.images.permute(0, 2, 3, 1).numpy(), train)
    assert np.array_equal(
        cifar10.test.images.permute(0, 2, 3, 1).numpy(), photographs(10, 32, 32, seed=6)
    )
    assert cifar10.test.labels.tolist() == [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]


def test_cifar10_with_another_md5_is_refused_before_it_is_unpickled(cifar10_batches, fresh_home):
    changed(cifar10_batches / "cifar-10-batches-py" / "test_batch")
    with pytest.raises(SelbenchError, match="cifar-10-batches-py is missing or damaged; run"):
        load("cifar10", cifar10_batches)


def test_tiny_imagenet_numbers_classes_by_sorted_wordnet_id(tiny_imagenet):
    assert tiny_imagenet.classes == tuple(sorted(WNIDS))
    assert tiny_imagenet.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert tiny_imagenet.test.labels.tolist() == [1, 0, 2, 0]


def test_tiny_imagenet_tests_on_the_official_validation_images(tiny_imagenet, tiny_imagenet_tree):
    for number, image in enumerate(tiny_imagenet.test.images):
        path = tiny_imagenet_tree / "val" / "images" / f"val_{number}.JPEG"
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))


# Subsets.


def uneven_labels():
    return torch.repeat_interleave(torch.arange(4), torch.tensor([100, 50, 25, 5]))


def test_stratified_order_is_a_permutation():
    order = stratified_order(uneven_labels(), seeded("order", 0))
    assert order.sort().values.tolist() == list(range(180))


def test_every_prefix_of_a_stratified_order_is_proportional():
    labels = uneven_labels()
    ordered = labels[stratified_order(labels, seeded("order", 1))]
    seen = torch.nn.functional.one_hot(ordered, 4).cumsum(0)
    expected = torch.arange(1, 181)[:, None] * labels.bincount() / 180
    assert (seen - expected).abs().max() < 1.5


def test_stratified_order_differs_per_generator_and_is_the_same_for_the_same_one():
    labels = uneven_labels()
    first, same, other = (stratified_order(labels, seeded("order", seed)) for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_validation_images_are_held_out_of_training(tree):
    rest, held_out = split_validation(tree.train, 12, seeded("validation", 0))
    assert len(rest) == 36
    assert held_out.labels.bincount().tolist() == [4, 4, 4]
    assert sorted([*rest.examples.tolist(), *held_out.examples.tolist()]) == list(range(48))
    for split in (rest, held_out):
        assert torch.equal(split.images, tree.train.images[split.examples])
        assert torch.equal(split.labels, tree.train.labels[split.examples])


def test_validation_images_are_drawn_anew_for_each_seed(tree):
    first, same, other = (
        split_validation(tree.train, 12, seeded("validation", seed))[1].examples.tolist()
        for seed in (0, 0, 1)
    )
    assert first == same != other


def test_taken_images_stay_channels_last(tree):
    taken = tree.train.take(torch.tensor([5, 3]))
    assert taken.images.is_contiguous(memory_format=torch.channels_last)
    assert taken.examples.tolist() == [5, 3]


# Bad data.


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(SelbenchError, match="unknown dataset 'digit'; did you mean 'digits'"):
        load("digit")


def test_validation_must_leave_training_images(image_tree):
    with pytest.raises(
        SelbenchError, match="validation = 48 leaves none of the 48 training images"
    ):
        load("folder", image_tree(), validation=48)


def test_folder_needs_a_root():
    with pytest.raises(SelbenchError, match=r'dataset "folder" needs dataset\.root'):
        load("folder")


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_part_says_where_to_put_it(part, image_tree):
    root = image_tree()
    (root / part).rename(root / "elsewhere")
    with pytest.raises(
        SelbenchError, match=rf"{root / part} is missing; put images there as {part}/"
    ):
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


def directory(path):
    path.unlink()
    path.mkdir()


UNUSABLE = {
    text: r"cannot be decoded as an image \(.*\); repair or remove it",
    empty: r"cannot be decoded as an image \(.*\); repair or remove it",
    half: r"cannot be decoded as an image \(.*\); repair or remove it",
    directory: r"cannot be decoded as an image \(.*\); repair or remove it",
    large: r"is larger than 4096 pixels; shrink or remove it",
    bomb: r"is larger than 4096 pixels; shrink or remove it",
}


@pytest.mark.parametrize("spoil", UNUSABLE)
@pytest.mark.parametrize("number", [0, 3])
def test_unusable_image_is_named(spoil, number, image_tree):
    root = image_tree()
    path = root / "train" / "digit-0" / f"{number:04}.png"
    spoil(path)
    with pytest.raises(SelbenchError, match=f"^{path} {UNUSABLE[spoil]}$"):
        load("folder", root)
    assert not (root / ".selbench.safetensors").exists()


@pytest.mark.parametrize("part", ["train", "test"])
def test_odd_sized_image_is_named(part, image_tree):
    root = image_tree()
    path = root / part / "digit-2" / "0004.png"
    Image.new("RGB", (32, 31)).save(path)
    with pytest.raises(SelbenchError, match=rf"{path} is 32 x 31 pixels, 0000.png .* is 32 x 32;"):
        load("folder", root)


def test_training_and_test_images_must_have_one_size(image_tree):
    root = image_tree()
    (root / "test").rename(root / "unused")
    (image_tree("other", side=16) / "test").rename(root / "test")
    with pytest.raises(SelbenchError, match=r"test.* 16 x 16 .*train.* 32 x 32.* one size"):
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


def test_tiny_imagenet_without_a_test_image_names_it(tiny_imagenet_tree, fresh_home):
    path = tiny_imagenet_tree / "val" / "images" / "val_2.JPEG"
    path.unlink()
    with pytest.raises(SelbenchError, match=f"^{path} cannot be decoded as an image"):
        load("tiny-imagenet", tiny_imagenet_tree)
