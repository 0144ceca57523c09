"""Corrupted sets: what is written is what `corrupt` makes, whatever folder the images lie in."""

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sets import CPU, FEW, LAYOUTS, NINETEEN, content, told, write

from corruptions import CORRUPTIONS, SMALLEST_SIDE, corrupt
from corruptions.frost import PHOTOGRAPHS
from selbench._kit import files
from selbench._kit.progress import SILENT
from selbench.datasets import DATASETS
from selbench.datasets.images import decode_image, decode_images
from selbench.sets import level_files, source, writing
from selbench.sets.layout import ABOUT, LABELS, About, Part, npy_header, read_about
from selbench.sets.source import open_source
from selbench.sets.treatment import SCALES, Treatment, find_variants
from selbench.sets.writing import write_set


def decoded(folder):
    return decode_images(sorted(folder.rglob("*.png")), SILENT, "")


# What is written.


def test_arrays_hold_what_corrupt_makes_severity_after_severity(images, tmp_path):
    write(images, "set")
    clean = decoded(images / "test")
    for name in FEW.corruptions:
        blocks = [corrupt(clean, name, s, examples=torch.arange(6)) for s in (1, 4)]
        np.save("expected.npy", torch.cat(blocks).permute(0, 2, 3, 1).contiguous().numpy())
        assert Path(f"set/{name}.npy").read_bytes() == Path("expected.npy").read_bytes()
    np.save("labels.npy", np.array([0, 0, 1, 1, 2, 2] * 2, np.uint8))
    assert Path("set/labels.npy").read_bytes() == Path("labels.npy").read_bytes()
    assert set(content(Path("set"))) == {"gaussian_noise.npy", "contrast.npy", LABELS, ABOUT}


def test_every_corruption_is_written(images):
    about = write(images, "set", Treatment(severities=(5,)))
    assert set(about.parts) == NINETEEN
    clean = decoded(images / "test")
    for name in NINETEEN:
        made = corrupt(clean, name, 5, examples=torch.arange(6)).permute(0, 2, 3, 1)
        assert np.array_equal(np.load(f"set/{name}.npy"), made.numpy())


def test_folders_hold_the_images_as_jpeg_of_quality_85(images, tmp_path):
    write(images, "set", layout="folder")
    clean = decoded(images / "test")
    for name in FEW.corruptions:
        for severity in (1, 4):
            made = corrupt(clean, name, severity, examples=torch.arange(6)).permute(0, 2, 3, 1)
            for position, pixels in enumerate(made.numpy()):
                Image.fromarray(pixels).save("x.jpg", quality=85, optimize=True)
                place = f"set/{name}/{severity}/digit-{position // 2}/000{position % 2}.JPEG"
                assert Path(place).read_bytes() == Path("x.jpg").read_bytes()
    assert len(content(Path("set"))) == 2 * 2 * 6 + 1


def test_seed_and_scale_are_those_of_corrupt(images):
    write(images, "set", Treatment(("shot_noise",), (2,), seed=7, scale=64))
    examples = torch.arange(6)
    made = corrupt(decoded(images / "test"), "shot_noise", 2, examples=examples, seed=7, scale=64)
    assert np.array_equal(np.load("set/shot_noise.npy"), made.permute(0, 2, 3, 1).numpy())
    about = read_about(Path("set"))
    assert (about.seed, about.scale, about.severities) == (7, 64, (2,))


def test_description_tells_how_the_set_was_made(images):
    about = write(images, "set")
    assert about == read_about(Path("set"))
    assert about.classes == ("digit-0", "digit-1", "digit-2")
    assert (about.layout, about.images, about.scale, about.seed) == ("npy", 6, 32, 0)
    version = CORRUPTIONS["contrast"].version
    md5 = files.md5_of(Path("set/contrast.npy"))
    assert about.parts["contrast"] == Part(version=version, variant="", finished=(1, 4), md5=md5)
    assert about.labels == files.md5_of(Path("set", LABELS))
    assert {"torch", "numpy", "pillow", "selbench"} <= set(about.versions)


def test_data_is_the_checksum_of_the_data_set_s_test_images(images):
    test = DATASETS["folder"](images, SILENT).test
    assert write(images, "a").data == test.checksum
    about = write_set(open_source("folder", images, SILENT), Path("b"), FEW, "npy", CPU)
    assert about.data == test.checksum
    assert Path("a/contrast.npy").read_bytes() == Path("b/contrast.npy").read_bytes()


def test_images_of_a_data_set_are_named_by_their_zero_padded_position():
    source = open_source("digits", None, SILENT)
    assert source.names[:2] == ("000", "001")
    assert source.names[-1] == "596"


def test_class_folders_and_bare_images_are_taken_too(images):
    write(images / "test", "classes")
    write(images / "test" / "digit-1", "bare")
    whole, bare = np.load("classes/contrast.npy"), np.load("bare/contrast.npy")
    assert np.array_equal(bare[:2], whole[2:4])
    assert not Path("bare/labels.npy").exists()
    assert read_about(Path("bare")).classes == ()


def test_bare_images_have_no_class_folders(images):
    write(images / "test" / "digit-1", "set", layout="folder")
    assert {p.name for p in Path("set/contrast/4").iterdir()} == {"0000.JPEG", "0001.JPEG"}


def test_labels_beyond_256_classes_are_uint16(tmp_path):
    for number in range(257):
        (tmp_path / "many" / f"{number:03}").mkdir(parents=True)
        Image.new("RGB", (32, 32), (number % 256, 0, 0)).save(f"many/{number:03}/a.png")
    write("many", "set", Treatment(("contrast",), (1, 2)))
    labels = np.load("set/labels.npy")
    assert labels.dtype == np.uint16
    assert labels.tolist() == [*range(257), *range(257)]


def test_files_that_differ_in_their_suffix_are_both_kept(images):
    place = images / "test" / "digit-1"
    Image.open(place / "0000.png").save(place / "0000.bmp")
    write(images, "set", Treatment(("contrast",), (1,)), "folder")
    names = {path.name for path in Path("set/contrast/1/digit-1").iterdir()}
    assert names == {"0000.bmp.JPEG", "0000.png.JPEG", "0001.png.JPEG"}


def test_sizes_may_differ_in_folders_where_a_scale_is_chosen(photographs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(source.VALUES, "cpu", 1)  # one image at a time
        write(photographs, "single", Treatment(("fog",), (3,), scale=224), "folder")
    write(photographs, "set", Treatment(("fog",), (3,), scale=224), "folder")
    assert content(Path("set")) == content(Path("single"))
    sizes = [decode_image(Path(f"set/fog/3/{number}.JPEG")).shape[:2] for number in range(4)]
    assert sizes == [(40, 32), (40, 32), (32, 40), (24, 24)]


def test_batches_are_neighbours_of_one_size(photographs, monkeypatch):
    monkeypatch.setitem(source.VALUES, "cpu", 3 * 40 * 32 * 2)
    assert open_source(str(photographs), None, SILENT).batches(CPU) == [
        range(2),
        range(2, 3),
        range(3, 4),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_and_batches_do_not_change_a_byte(layout, images, monkeypatch):
    write(images, "one", layout=layout)
    monkeypatch.setitem(source.VALUES, "cpu", 1)
    torch.set_num_threads(2)
    try:
        write(images, "other", layout=layout)
    finally:
        torch.set_num_threads(1)
    assert content(Path("one")) == content(Path("other"))


def test_few_images_are_decoded_once_and_many_are_not_kept(images, monkeypatch):
    write(images, "kept")
    decodings = []
    genuine = source.decode_images

    def counting(paths, *rest):
        decodings.append(len(paths))
        return genuine(paths, *rest)

    monkeypatch.setattr(source, "decode_images", counting)
    write(images, "again")
    assert sum(decodings) == 6
    decodings.clear()
    monkeypatch.setitem(source.VALUES, "cpu", 2 * 3 * 32 * 32)
    monkeypatch.setattr(source, "KEPT", 5 * 3 * 32 * 32)  # two of three batches
    write(images, "some")
    assert sum(decodings) == 6 + 3 * 2
    assert content(Path("kept")) == content(Path("again")) == content(Path("some"))


def test_header_is_numpy_s():
    for shape in [(50_000, 32, 32, 3), (50_000,), (1, 224, 224, 3), (2_000_000_000, 1)]:
        array = np.broadcast_to(np.uint8(0), shape)
        header = npy_header(shape)
        assert len(header) % 64 == 0
        if array.size < 1e6:
            np.save("x.npy", np.ascontiguousarray(array))
            assert Path("x.npy").read_bytes().startswith(header)


def test_scales_are_those_of_every_corruption():
    assert all(tuple(each.severities) == SCALES for each in CORRUPTIONS.values())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.sample
def test_smallest_images_are_written(scale, image_tree):
    images = image_tree(classes=1, train=1, test=1, side=SMALLEST_SIDE)
    about = write(images, "set", Treatment(severities=(5,), scale=scale))
    assert set(about.parts) == NINETEEN


# One command at a time.


def test_second_command_into_a_folder_is_refused_while_the_first_writes(images, monkeypatch):
    write(images, "whole")
    genuine, refusals = level_files.Arrays.place, []

    def place(*arguments):
        if not refusals:
            with told("^another command is writing into set; wait for its end, or choose") as found:
                write(images, "set")
            refusals.append(found)
        genuine(*arguments)

    monkeypatch.setattr(level_files.Arrays, "place", place)
    write(images, "set")
    assert len(refusals) == 1
    write(images, "set")
    assert content(Path("set")) == content(Path("whole"))


def test_file_system_without_locks_is_written_to(images, monkeypatch):
    def unknown(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unknown)
    write(images, "set")


# The photographs of frost.


@pytest.fixture
def frost(fresh_home):
    """Put pictures of frost where selbench looks for the photographs."""
    (fresh_home / "frost").mkdir(parents=True)
    for name in PHOTOGRAPHS:
        Image.new("RGB", (300, 280), "white").save(fresh_home / "frost" / name)
    return fresh_home / "frost"


def test_photographs_are_looked_for_in_selbench_home(frost, image_tree, monkeypatch):
    environment = dict(os.environ)
    (variant,) = find_variants(["frost"]).values()
    assert variant.startswith("photographs ")
    assert dict(os.environ) == environment
    monkeypatch.setenv("SELBENCH_HOME", str(frost / "elsewhere"))
    assert find_variants(["frost"]) == {"frost": "procedural"}


def test_incomplete_photographs_are_told(frost):
    (frost / "frost2.png").unlink()
    with told(f"^the folder {frost} lacks frost2.png; add them, or remove the folder to use proc"):
        find_variants(["frost"])
    assert find_variants(["fog"]) == {"fog": ""}


def test_damaged_photographs_are_told_before_anything_is_written(frost, images):
    (frost / "frost3.png").write_bytes(b"junk")
    with told(f"^the photograph {frost / 'frost3.png'} is no image; replace it$"):
        write(images, "set", Treatment(("contrast", "frost"), (1,)))
    assert not Path("set").exists()


def test_photograph_that_goes_meanwhile_is_told(frost, images, monkeypatch):
    genuine = level_files.Arrays.begin

    def begin(*arguments):
        (frost / "frost5.jpg").unlink()
        genuine(*arguments)

    monkeypatch.setattr(level_files.Arrays, "begin", begin)
    with told(f"^the folder {frost} lacks frost5.jpg; add them"):
        write(images, "set", Treatment(("frost",), (1,)))


# The images.


def test_neither_a_folder_nor_a_data_set(tmp_path):
    with told("^there is neither a folder nor a data set 'cifar01'; did you mean 'cifar10'"):
        open_source("cifar01", None, SILENT)
    with told("^there is neither a folder nor a data set './digits'; did you mean 'digits'"):
        open_source("./digits", None, SILENT)


def test_slash_tells_a_folder_from_a_data_set(images):
    images.rename("digits")
    assert len(open_source("digits", None, SILENT)) == 597
    assert len(open_source("./digits", None, SILENT)) == 6
    assert open_source("digits/", None, SILENT).classes == ("digit-0", "digit-1", "digit-2")


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda: None, "^images holds no images that Pillow reads and no folders$"),
        (lambda: Path("images/a").mkdir(), "^the class folder images/a holds no images"),
        (
            lambda: (Path("images/a").mkdir(), Path("images/b.png").touch()),
            r"^images holds both class folders and images \(a, b.png\); move one of them",
        ),
        (
            lambda: Path("images/b.png").write_bytes(b"no image"),
            "^images/b.png cannot be decoded as an image",
        ),
    ],
)
def test_folder_that_cannot_be_corrupted_is_told(prepare, sentence):
    Path("images").mkdir()
    prepare()
    with told(sentence):
        write("images", "set")
    assert not Path("set").exists()


def test_class_whose_name_is_not_utf_8_is_told(images):
    place = os.fsencode(images / "test" / "digit-1")
    os.rename(place, place + b"\xff")  # noqa: PTH104 (a path of bytes)
    for layout in LAYOUTS:
        with told(r"^the class folder '.*/test/digit-1\\udcff' has a name that is not UTF-8; ren"):
            write(images, "set", layout=layout)
    assert not Path("set").exists()


@pytest.mark.parametrize(
    "damage",
    ['{"x": 1}', "{", "", "[]", '{"sizes": [[32, 32]], "checksum": "a"}', '{"sizes": 1}', "\udcff"],
)
def test_damaged_survey_is_made_anew(damage, images, fresh_home):
    before = open_source(str(images), None, SILENT).survey()
    (kept,) = (fresh_home / "surveys").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage.encode(errors="surrogateescape"))
    assert open_source(str(images), None, SILENT).survey() == before
    assert kept.read_bytes() == whole


def test_link_to_nothing_is_told(images):
    Path("images/test/digit-0/0003.png").symlink_to("nowhere.png")
    with told("^cannot read images/test/digit-0/0003.png: No such file"):
        write("images", "set")


def test_data_beside_a_folder_is_refused(images):
    with told("^--data belongs to a data set's name; leave it out, images is a folder$"):
        open_source("images", Path("elsewhere"), SILENT)


def test_description_says_what_is_unlike_the_published_sets():
    about = About(
        layout="npy",
        data="",
        images=5,
        classes=(),
        seed=0,
        scale=32,
        severities=(1, 2),
        parts={"frost": Part(version=1, variant="procedural"), "fog": Part(version=1, variant="")},
    )
    sentence = "2 corruptions at 2 severities of 5 images; frost is procedural"
    assert writing.describe(about) == sentence
