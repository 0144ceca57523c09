"""Sets that others made, as they lie on disk: read back as written, or what is wrong with them."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from selbench._kit.errors import SelbenchError
from selbench.datasets import Dataset
from selbench.datasets.dataset import chosen, make_split
from selbench.datasets.frame import Frame
from selbench.sets import set_sheet, sheet
from selbench.sets.reading import CorruptedSet
from selbench.sets.shifted import ShiftedSet, open_set
from selbench.suites import Setting, collect
from selbench.suites.bench import run_condition

CLASSES = ("n01", "n02", "n03")
PER, SIDE = 2, 8
LABELS = [0, 0, 1, 1, 2, 2]
SEVERITIES = range(1, 6)


def pixels(*seed):
    return np.random.default_rng(seed).integers(256, size=(PER * 3, SIDE, SIDE, 3), dtype=np.uint8)


def dataset(labels=LABELS, classes=CLASSES):
    images = torch.from_numpy(pixels(0)[: len(labels)]).permute(0, 3, 1, 2)
    split = make_split(images, torch.tensor(labels))
    return Dataset("small", classes, split, split)


def write_images(folder, images, classes=CLASSES, suffix=".png"):
    """Write images class by class, as many of each."""
    each = len(images) // len(classes)
    for number, image in enumerate(images):
        place = folder / classes[number // each]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"ILSVRC2012_val_{number:08}{suffix}")


def arrays(root, made):
    """CIFAR-10-C, CIFAR-100-C."""
    root.mkdir()
    for name, severities in made.items():
        np.save(root / f"{name}.npy", np.concatenate([*severities.values()]))
    np.save(root / "labels.npy", np.tile(np.uint8(LABELS), 5))


def flat(root, made):
    """Tiny-ImageNet-C."""
    for name, severities in made.items():
        for severity, images in severities.items():
            write_images(root / name / str(severity), images)


def unpacked(root, made):
    """ImageNet-C, in the folders of its archives."""
    groups = {"fog": "weather", "snow": "weather", "defocus_blur": "blur", "spatter": "extra"}
    for name, severities in made.items():
        flat(root / groups[name], {name: severities})


LAYOUTS = (arrays, flat, unpacked)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_back_what_it_holds(layout, tmp_path):
    names = ("fog", "defocus_blur", "spatter")
    made = {name: {s: pixels(k, s) for s in SEVERITIES} for k, name in enumerate(names)}
    layout(tmp_path / "set", made)
    found = open_set(tmp_path / "set", dataset())
    assert isinstance(found, CorruptedSet)
    assert {name for name in ("snow", *names) if found.holds(name)} == {*names}
    for name, severities in made.items():
        stored = found.find(name)
        assert [*stored] == [*severities]
        for severity, images in severities.items():
            split = stored[severity].split()
            assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), images)
            assert split.images.is_contiguous(memory_format=torch.channels_last)
            assert split.labels.tolist() == LABELS


def test_images_are_read_a_batch_at_a_time_and_limited_as_test_images_are(tmp_path):
    flat(tmp_path / "set", {"fog": {1: pixels(1)}})
    with pytest.warns(UserWarning, match=r"fog lacks severity 2, 3, 4, 5, which is left out$"):
        stored = open_set(tmp_path / "set", dataset()).find("fog")[1]
    asked = []
    whole, read = stored.split(), stored.read
    object.__setattr__(stored, "read", lambda places: asked.append(len(places)) or read(places))
    parts = [*stored.batches(4)]
    assert asked == [4, 2]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    kept = stored.limited(3)
    assert kept.split().examples.tolist() == chosen(torch.tensor(LABELS), 3).tolist()
    assert torch.equal(kept.split().images, whole.take(kept.examples).images)


def test_a_corruption_in_two_places_is_refused(tmp_path):
    made = {"fog": {1: pixels(1)}}
    flat(tmp_path / "set", made)
    unpacked(tmp_path / "set", made)
    with pytest.raises(SelbenchError, match=r"^fog lies in both .*set/fog and .*weather/fog; remo"):
        open_set(tmp_path / "set", dataset())


def test_one_severity_in_an_array_is_not_taken_for_five(tmp_path):
    arrays(tmp_path / "set", {})
    np.save(tmp_path / "set" / "fog.npy", pixels(1)[:5])
    np.save(tmp_path / "set" / "labels.npy", np.uint8(LABELS[:5]))
    with pytest.raises(SelbenchError, match=r"holds 5 images, as many as there are test images; f"):
        open_set(tmp_path / "set", dataset(LABELS[:5])).find("fog")


def test_a_tree_that_cannot_be_of_the_test_images_says_so(tmp_path):
    flat(tmp_path / "set", {"fog": {s: pixels(s) for s in SEVERITIES}})
    message = r"set holds 6 images at each severity, and not those of each class that the 4 test"
    with pytest.warns(UserWarning, match=message):
        open_set(tmp_path / "set", dataset([0, 0, 1, 2])).find("fog")


def test_a_file_of_another_size_inside_a_tree_is_named(tmp_path):
    flat(tmp_path / "set", {"fog": {s: pixels(s) for s in SEVERITIES}})
    odd = tmp_path / "set" / "fog" / "2" / "n03" / "ILSVRC2012_val_00000005.png"
    Image.new("RGB", (9, 8)).save(odd)
    stored = open_set(tmp_path / "set", dataset()).find("fog")[2]
    with pytest.raises(SelbenchError, match=rf"^{odd} is 9 x 8 pixels, .* must have one size"):
        stored.split()


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4, 5], [5, 0, 2]])
def test_images_of_known_names_are_the_test_images_in_their_order(tmp_path, kept):
    made = {"fog": {s: pixels(s) for s in SEVERITIES}}
    flat(tmp_path / "set", made)
    names = tuple(f"ILSVRC2012_val_{number:08}" for number in kept)
    data = replace(dataset([LABELS[number] for number in kept]), names=names)
    stored = open_set(tmp_path / "set", data).find("fog")[4]
    assert stored.paired
    images = stored.split().images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images, made["fog"][4][kept])
    assert torch.equal(stored.labels, data.test.labels)
    others = replace(data, names=("other", *names[1:]))
    if len(kept) == len(LABELS):
        assert not open_set(tmp_path / "set", others).find("fog")[4].paired
    else:
        with pytest.warns(UserWarning, match="set holds 6 images at each severity, and not those"):
            assert not open_set(tmp_path / "set", others).find("fog")[4].paired


# Shifted images.


def test_shifted_images_are_a_condition_of_their_own_among_their_own_classes(tmp_path):
    folder = tmp_path / "imagenet-r"
    write_images(folder, pixels(3)[:4], ("n01", "n03"))
    found = open_set(folder, dataset())
    assert isinstance(found, ShiftedSet)
    stored = found.find()
    assert stored.labels.tolist() == [0, 0, 2, 2]
    assert np.array_equal(stored.split().images.permute(0, 2, 3, 1).numpy(), pixels(3)[:4])
    (clean, shifted) = collect(("corruptions",), Setting(SIDE, SIDE, stored=found))[-2:]
    assert (clean.name, shifted.suite, shifted.name) == ("clean", "shifted", "imagenet_r")
    assert shifted.source == "files (2 of 3 classes)"
    assert not stored.paired

    class Second(torch.nn.Module):  # is sure of the class that has no images
        def forward(self, images):
            return torch.tensor([0.0, 9.0, 1.0]).expand(len(images), 3)

    (columns,) = run_condition(shifted.perturb, [Second()], stored, lambda *given, **more: None)
    assert columns["prediction"].tolist() == [2, 2, 2, 2]
    assert columns["label"].tolist() == [0, 0, 2, 2]
    assert columns["confidence"][0].item() == pytest.approx(1 / (1 + np.exp(-1)))
    assert columns["margin"].tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize(
    ("names", "mapped", "labels", "source"),
    [
        (("n01", "n02", "n03"), None, [0, 0, 1, 1, 2, 2], "files"),
        (("0", "1", "2"), None, LABELS, "files (folders numbered as classes)"),
        (("a", "b", "c"), {"a": "n03", "b": None, "c": "n01"}, [2, 2, 0, 0], "files (class map, 2"),
        (("0", "1", "2"), {"0": "n03", "1": "n03", "2": "n01"}, [2, 2, 2, 2, 0, 0], "files (class"),
    ],
)
def test_folders_are_of_classes(names, mapped, labels, source, tmp_path):
    write_images(tmp_path / "set", pixels(3), names)
    if mapped:
        (tmp_path / "set" / "classes.json").write_text(json.dumps(mapped))
    stored = open_set(tmp_path / "set", dataset()).find()
    assert stored.labels.tolist() == labels
    assert stored.source.startswith(source)


def write_map(text):
    def write(folder):
        (folder / "classes.json").write_text(text)

    return write


def another_class(folder):
    (folder / "n02").rename(folder / "n20")


def one_class(folder):
    for name in ("n02", "n03"):
        (folder / name).rename(folder.parent / name)


def another_size(folder):
    Image.new("RGB", (9, 9)).save(folder / "n01" / "ILSVRC2012_val_00000000.png")


def empty_class(folder):
    for path in (folder / "n02").iterdir():
        path.unlink()


DAMAGE = {
    another_class: r"the folder n20 in .*set is no class of small \(did you mean 'n03'\?\); rename "
    r'it, or map folders to classes in .*classes\.json, null for none: \{"n20": "n01"\}$',
    one_class: r"holds images of only one class, so any network is right; add the",
    another_size: r"set.* 9 x 9 pixels, the data set's 8 x 8|is 8 x 8 pixels",
    empty_class: r"the class folder .*n02 holds no images that Pillow reads; add some or",
    write_map("{"): r"classes\.json is not valid JSON: ",
    write_map('{"n01": 1}'): r"classes\.json is no JSON object from folder to class, such as",
    write_map('{"n09": "n01"}'): r"unknown folder in .*classes\.json 'n09'; did you mean",
    write_map('{"n01": "n09"}'): r"unknown class in .*classes\.json 'n09'; did you mean",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_one_sentence(damage, tmp_path):
    write_images(tmp_path / "set", pixels(3))
    damage(tmp_path / "set")
    with pytest.raises(SelbenchError, match=DAMAGE[damage]):
        open_set(tmp_path / "set", dataset()).find()


def test_shifted_images_are_framed_as_the_data_set_s(tmp_path):
    for number, name in enumerate(CLASSES):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (12 + number, 10)).save(tmp_path / "set" / name / "a.png")
    plain = open_set(tmp_path / "set", dataset())
    with pytest.raises(
        SelbenchError, match=r"the images of .*set are 12 x 10 pixels, the data set"
    ):
        plain.find()
    stored = open_set(tmp_path / "set", dataset(), Frame(8, 9)).find()
    assert stored.split().images.shape == (3, 3, 8, 8)
    assert stored.checksum != open_set(tmp_path / "set", dataset(), Frame(8)).find().checksum


@pytest.mark.parametrize("of", ["corrupted", "shifted"])
def test_images_on_disk_are_known_by_their_content_wherever_they_lie(of, tmp_path):
    def written(root, seed=3):
        if of == "shifted":
            write_images(root / "set", pixels(seed), suffix=".bmp")  # as large whatever they show
        else:
            for severity in SEVERITIES:
                place = root / "set" / "fog" / str(severity)
                write_images(place, pixels(seed, severity), suffix=".bmp")
        return root / "set"

    def checksums(folder):
        opened = open_set(folder, dataset())
        found = opened.find() if of == "shifted" else opened.find("fog")
        return {each.checksum for each in (found.values() if of == "corrupted" else [found])}

    known = checksums(written(tmp_path / "one"))
    for path in (tmp_path / "one").rglob("*.bmp"):
        os.utime(path, (1, 1))  # as a checkout or an archive may
    assert checksums(tmp_path / "one" / "set") == known
    assert checksums(written(tmp_path / "copy")) == known
    assert not checksums(written(tmp_path / "other", seed=4)) & known


def test_shifted_images_are_no_corruptions(tmp_path):
    write_images(tmp_path / "set", pixels(3))
    setting = Setting(SIDE, SIDE, stored=open_set(tmp_path / "set", dataset()))
    with pytest.raises(SelbenchError, match=r"holds shifted images, not corruptions; leave out"):
        collect(("corruptions",), Setting(SIDE, SIDE, stored=setting.stored, corruptions=("fog",)))
    with pytest.raises(SelbenchError, match="set holds other images than the test set, so repr"):
        collect(("dimensionality",), setting)


def test_a_run_shows_each_folder_in_a_column(selbench, tiny_study):
    test = Path("images/test")
    names = sorted(path.name for path in test.iterdir())
    for folder, classes in (("old-photos", names), ("few", names[:2])):
        for name in classes:
            for path in sorted((test / name).iterdir())[:2]:
                place = Path(folder) / name / path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
    words = ("run", tiny_study, "--suite", "clean", "--suite", "corruptions")
    words += ("--alpha", "0", "--seed", "0", "--quiet", "--source")
    assert selbench(*words, "old-photos").code == 0
    ended = selbench(*words, "few")
    shown = " ".join(ended.out.split())
    assert "few % old_photos %" in shown
    assert f"few: 4 images, files (2 of {len(names)} classes); old_photos: " in shown
    table = json.loads(selbench("leaderboard", "tiny", "--format", "json").out)[0]["rows"][0]
    assert 0 <= table["shifted_few"] <= 1
    assert table["clean_interval"] is None or table["clean_interval"] > 0
    sorted_ = selbench("leaderboard", "tiny", "--sort", "shifted_few", "--columns", "clean")
    assert sorted_.code == 0
    assert "unknown column" in selbench("leaderboard", "tiny", "--columns", "shifted_x").err


# Shown.


def drawn(monkeypatch, found, names=("fog", "frost"), severities=(1, 3)):
    """Return what is said of a sheet of a set, and the sheet's families."""
    kept = []
    monkeypatch.setattr(set_sheet, "save_sheet", lambda sheet, path: None)
    monkeypatch.setattr(set_sheet, "draw_sheet", lambda families, *_: kept.append(families))
    said = set_sheet.write_set_sheet(found, dataset(), names, severities, Path("sheet.png"))
    return said, kept[0]


def same(cell, *images):
    wanted = sheet.side_by_side(
        [torch.from_numpy(each)[None].permute(0, 3, 1, 2) for each in images]
    )
    return np.array_equal(np.asarray(cell), np.asarray(wanted))


def test_a_sheet_shows_the_images_of_a_set_beside_clean_ones(tmp_path, monkeypatch):
    made = {"fog": {s: pixels(s) for s in SEVERITIES}}
    unpacked(tmp_path / "set", made)
    said, (family,) = drawn(monkeypatch, open_set(tmp_path / "set", dataset()))
    assert said == f"sheet.png shows fog of {tmp_path / 'set'}"
    (row,) = family.rows
    assert (family.name, row.name) == ("weather", "fog")
    wanted = [pixels(0), made["fog"][1], made["fog"][3]]
    assert all(same(cell, each[0], each[2]) for cell, each in zip(row.cells, wanted, strict=True))
    with pytest.raises(SelbenchError, match="set holds none of snow; name a corruption of it with"):
        drawn(monkeypatch, open_set(tmp_path / "set", dataset()), ("snow",))


def test_a_sheet_shows_shifted_images_by_their_classes(tmp_path, monkeypatch):
    write_images(tmp_path / "old", pixels(3)[:4], ("n01", "n03"))
    said, (family,) = drawn(monkeypatch, open_set(tmp_path / "old", dataset()))
    assert said == f"sheet.png shows 2 classes of {tmp_path / 'old'}"
    assert [row.name for row in family.rows] == ["n01", "n03"]
    clean, first, second, *blank = family.rows[1].cells
    assert same(clean, pixels(0)[4])
    assert same(first, pixels(3)[2])
    assert same(second, pixels(3)[3])
    assert {np.asarray(each).min() for each in blank} == {255}


def test_a_set_is_shown_alone(selbench, refused):
    sentence = refused("corrupt", "digits", "out", "--source", "set")
    assert sentence.startswith("--source shows an existing set; give --preview, and leave out")
    Path("set").mkdir()
    sentence = refused("corrupt", "digits", "--source", "set", "--preview", "sheet.png")
    assert "set holds none of gaussian_noise, " in sentence
