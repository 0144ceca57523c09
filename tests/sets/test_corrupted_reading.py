"""Corrupted sets on disk: both layouts, what they are called, and what is wrong with them."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sets import NINETEEN

from selbench._kit import files
from selbench._kit.errors import SelbenchError
from selbench._kit.files import home, md5_of
from selbench.datasets.dataset import make_split
from selbench.datasets.download import RECEIPT
from selbench.sets import reading
from selbench.sets.layout import ABOUT, About, Part
from selbench.sets.reading import CorruptedSet
from selbench.sets.releases import PUBLISHED, official_folder

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


def clean(side=SIDE, labels=(0, 1, 2, 0, 1, 2)):
    pixels = torch.zeros(len(labels), 3, side, side, dtype=torch.uint8)
    return make_split(pixels, torch.tensor(labels))


def the_set(folder, classes=CLASSES, test=None, **facts):
    return CorruptedSet(folder, classes, clean() if test is None else test, **facts)


def find(folder, name, severity, **facts):
    return the_set(folder, **facts).find(name)[severity]


def about(**facts):
    plain = {
        "layout": "npy",
        "data": clean().checksum,
        "images": IMAGES,
        "classes": CLASSES,
        "seed": 0,
    }
    parts = {"fog": Part(version=1, variant="", finished=(1, 2, 3, 4, 5))}
    return About(**(plain | {"scale": 32, "severities": (1, 2, 3, 4, 5), "parts": parts} | facts))


def test_arrays_are_read_block_by_block(arrays):
    published = np.load(arrays / "fog.npy")
    for severity in range(1, 6):
        stored = find(arrays, "fog", severity)
        split = stored.split()
        block = published[(severity - 1) * IMAGES : severity * IMAGES]
        assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), block)
        assert split.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert split.examples.tolist() == list(range(IMAGES))
        assert (len(stored), stored.source) == (IMAGES, "files")


def test_folders_are_read_class_by_class(folders):
    stored = find(folders, "fog", 3)
    split = stored.split()
    assert split.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert split.images[:, 0, 0, 0].tolist() == [30, 30, 31, 31, 32, 32]
    assert (len(stored), stored.source) == (6, "files")


@pytest.mark.parametrize("layout", ["arrays", "folders"])
def test_checksums_tell_severities_and_contents_apart(layout, request):
    folder = request.getfixturevalue(layout)
    sums = [find(folder, "fog", severity).checksum for severity in range(1, 6)]
    if layout == "arrays":
        assert len(set(sums)) == 5
        pixels = np.load(folder / "fog.npy")
        pixels[0, 0, 0, 0] += 1
        np.save(folder / "fog.npy", pixels)
    else:
        Image.effect_noise((SIDE, SIDE), 64).save(folder / "fog" / "1" / CLASSES[0] / "a.JPEG")
    assert find(folder, "fog", 1).checksum != sums[0]


def test_published_files_are_known_by_their_md5(arrays, monkeypatch):
    for name in ("fog", "labels"):
        digest = hashlib.md5((arrays / f"{name}.npy").read_bytes()).hexdigest()
        monkeypatch.setitem(PUBLISHED["cifar10"], name, digest)
    assert find(arrays, "fog", 1, strict=True).source == "official"
    assert find(arrays, "contrast", 1).source == "files"
    message = r"contrast\.npy is not the published file \(its md5 does not match\); download the"
    with pytest.raises(SelbenchError, match=message):
        find(arrays, "contrast", 1, strict=True)


def test_other_labels_than_the_published_are_not_official(arrays, monkeypatch):
    monkeypatch.setitem(PUBLISHED["cifar10"], "fog", md5_of(arrays / "fog.npy"))
    with pytest.raises(SelbenchError, match=r"labels\.npy is not the published file"):
        find(arrays, "fog", 1, strict=True)


def test_a_set_that_selbench_made_says_so(arrays, folders):
    about().write(arrays)
    assert find(arrays, "fog", 1).source == "files (generated)"
    parts = {"fog": Part(version=1, variant="procedural", finished=(1, 2, 3, 4, 5))}
    about(layout="folder", parts=parts).write(folders)
    assert find(folders, "fog", 1).source == "files (generated, JPEG files, procedural)"


@pytest.mark.parametrize("layout", ["arrays", "folders"])
def test_a_set_that_selbench_has_not_finished_is_refused(layout, request):
    folder = request.getfixturevalue(layout)
    parts = {"fog": Part(version=1, variant="", finished=(1, 2))}
    for listed in (parts, {}):
        about(parts=listed).write(folder)
        message = f"^fog in {folder} is not finished; run the same `selbench corrupt` again$"
        with pytest.raises(SelbenchError, match=message):
            find(folder, "fog", 1)


def test_a_set_of_other_classes_is_refused(arrays):
    about(classes=("cat", "dog", "ship", "truck")).write(arrays)
    message = (
        r"has the classes cat, dog, ship, \.\.\., the data set digit-0, digit-1, "
        "digit-2; take the set that belongs to it"
    )
    with pytest.raises(SelbenchError, match=message):
        find(arrays, "fog", 1)


def test_a_set_of_other_images_says_so(arrays, folders):
    unpaired = "other pictures than the clean ones"
    other = clean(labels=(0, 0, 1, 1, 2, 2))
    message = r"labels\.npy does not hold the labels of the 6 test images in their order \(6 images"
    with pytest.warns(UserWarning, match=message):
        assert find(arrays, "fog", 1, test=other).source == f"files ({unpaired})"
    about(data="x").write(arrays)
    assert find(arrays, "fog", 1).source == f"files (generated, {unpaired})"
    about(data="x", layout="folder").write(folders)
    assert find(folders, "fog", 1).source == f"files (generated, JPEG files, {unpaired})"


def test_severities_of_unequal_length_are_refused(folders):
    (folders / "fog" / "3" / "digit-1" / "a.JPEG").unlink()
    with pytest.raises(SelbenchError, match=r"of .*fog hold 5 to 6 images; get the whole set$"):
        find(folders, "fog", 1)


def test_changed_files_of_the_same_size_are_other_images(folders):
    before = find(folders, "fog", 1).checksum
    path = folders / "fog" / "1" / CLASSES[0] / "b.JPEG"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    assert len(path.read_bytes()) == len(content)
    assert find(folders, "fog", 1).checksum != before


def test_only_what_was_downloaded_is_official(folders):
    message = "was not unpacked by `selbench download`; run it, or name the folder with --source"
    with pytest.raises(SelbenchError, match=message):
        find(folders, "fog", 1, strict=True)
    (folders / RECEIPT).touch()
    assert find(folders, "fog", 1, strict=True).source.startswith("official")


@pytest.mark.parametrize("severities", [[], [7], [0, 1]])
def test_an_account_of_impossible_severities_is_damaged(arrays, severities):
    about().write(arrays)
    content = json.loads((arrays / ABOUT).read_text())
    del content["digest"]
    (arrays / ABOUT).write_text(json.dumps(content | {"severities": severities}))
    with pytest.raises(SelbenchError, match=r"selbench-set\.json is damaged"):
        find(arrays, "fog", 1)


def test_a_set_with_some_severities_has_only_those(arrays):
    parts = {"fog": Part(version=1, variant="", finished=(2, 5))}
    about(severities=(2, 5), parts=parts).write(arrays)
    assert list(the_set(arrays).severities) == [2, 5]
    split = find(arrays, "fog", 5, test=clean(labels=(0, 1, 2) * 5)).split()
    block = np.load(arrays / "fog.npy")[15:]
    assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), block)


def test_a_downloaded_tiny_imagenet_c_is_official_but_unpaired(folders):
    (folders / RECEIPT).touch()
    source = find(folders, "fog", 1).source
    assert source == "official (other pictures than the clean ones)"


@pytest.mark.parametrize("what", ["not checked, other pictures than the clean ones", "not checked"])
def test_a_tree_like_an_official_one_is_official_but_not_checked(folders, monkeypatch, what):
    assert set(reading.TREES) == {200, 1000}
    monkeypatch.setattr(reading, "TREES", {3: what})
    monkeypatch.setattr(reading, "EACH", 2)
    assert find(folders, "fog", 1).source == f"official ({what})"


def test_an_md5_is_computed_once_for_an_unchanged_file(arrays, monkeypatch):
    path = arrays / "fog.npy"
    first = md5_of(path)
    assert first == hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(files.hashlib, "file_digest", None)
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


def zipped(folder):
    (folder / "fog.npy").write_bytes(b"PK\x03\x04" + bytes(200))


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


def negative_label(folder):
    np.save(folder / "labels.npy", np.array([-1, 2] * 15, np.int8))


def no_labels(folder):
    (folder / "labels.npy").unlink()


def no_corruption(folder):
    (folder / "fog.npy").unlink()


SPOILT = {
    cut_off: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    not_numpy: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    no_bytes: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    pickled: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    zipped: r"fog\.npy is cut off or damaged \(.*\); get or make it again$",
    floats: r"fog\.npy holds no array of integers with 4 axes$",
    grey: r"fog\.npy holds uint8 of shape \(30, 8, 8, 1\); expected are uint8 of shape \(n, height",
    odd_number: r"fog\.npy holds uint8 of shape \(31, .*, n a multiple of the 5 severities$",
    other_size: r"images of .*fog\.npy are 9 x 8 pixels, the data set's 8 x 8; take the set that",
    few_labels: r"labels\.npy holds 29 labels for the 30 images of fog\.npy; get both from one set",
    strange_label: r"labels\.npy names class 3, the data set has the classes 0 to 2$",
    negative_label: r"labels\.npy names class -1, the data set has the classes 0 to 2$",
    no_labels: r"labels\.npy is missing; get the whole set$",
    no_corruption: r"CIFAR-10-C holds neither fog\.npy nor a folder fog with severities; choose",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_spoilt_file_is_named(spoil, arrays):
    spoil(arrays)
    with pytest.raises(SelbenchError, match=SPOILT[spoil]):
        find(arrays, "fog", 2)


def test_a_missing_severity_is_named_and_left_out(folders):
    (folders / "fog" / "4").rename(folders / "elsewhere")
    place = folders / "fog"
    with pytest.warns(UserWarning, match=rf"^{place} lacks severity 4, which is left out$"):
        assert list(the_set(folders).find("fog")) == [1, 2, 3, 5]
    (folders / RECEIPT).touch()
    message = rf"^the folder {place / '4'} of severity 4 is missing; get the whole set$"
    with pytest.raises(SelbenchError, match=message):
        the_set(folders, strict=True).find("fog")


@pytest.mark.parametrize(
    ("classes", "missing"), [((*CLASSES, "digit-3"), "digit-3"), (CLASSES[:2], "digit-2")]
)
def test_other_classes_than_the_data_set_s_are_refused(folders, classes, missing):
    place = folders / "fog" / "1"
    with pytest.raises(SelbenchError, match=rf"the class {missing} is in only one of {place} and"):
        the_set(folders, classes=classes).find("fog")


def test_other_sizes_than_the_data_set_s_are_refused(folders):
    with pytest.raises(SelbenchError, match=r"fog/1 are 8 x 8 pixels, the data set's 16 x 16"):
        find(folders, "fog", 1, test=clean(side=16))


def test_a_damaged_account_of_a_set_is_named(arrays):
    (arrays / ABOUT).write_text('{"format": 7}')
    with pytest.raises(SelbenchError, match=r"selbench-set\.json is damaged or of another version"):
        find(arrays, "fog", 1)


def test_official_sets_belong_to_their_data_sets(fresh_home):
    message = r"CIFAR-10-C is missing; run `selbench download cifar10-c`, or name the folder"
    with pytest.raises(SelbenchError, match=message):
        official_folder("cifar10")
    (home() / "datasets" / "CIFAR-10-C").mkdir(parents=True)
    assert official_folder("cifar10") == home() / "datasets" / "CIFAR-10-C"
    with pytest.raises(SelbenchError, match="no official corrupted set of the data set folder can"):
        official_folder("folder")


def test_the_published_md5s_are_of_all_corruptions():
    for table in PUBLISHED.values():
        assert set(table) == {*NINETEEN, "labels"}


def test_a_corruption_of_a_plugin_has_no_published_file(arrays):
    (arrays / "fog.npy").rename(arrays / "darken.npy")
    assert find(arrays, "darken", 2).source == "files"
