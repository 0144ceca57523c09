"""Corrupted sets go on from wherever a command ended, and overwrite nothing else."""

import errno
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from sets import CPU, FEW, LAYOUTS, content, told, write

from selbench._kit.progress import SILENT, Progress
from selbench.sets import level_files, source
from selbench.sets.layout import ABOUT, LABELS, About, read_about
from selbench.sets.source import open_source
from selbench.sets.treatment import Treatment
from selbench.sets.writing import write_set


class Counted(Progress):
    """Records what each task announced."""

    def __init__(self):
        self.tasks = {}

    @contextmanager
    def track(self, task, pieces, done=0):
        seen = self.tasks[task] = {"pieces": pieces, "before": done, "made": 0}

        def step(pieces=1, note=""):
            seen["made"] += pieces

        yield step


# Going on.


def test_finished_set_is_left_alone_and_nothing_is_decoded(images, monkeypatch):
    write(images, "set")
    before = {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")}
    monkeypatch.setattr(source, "decode_image", None)
    monkeypatch.setattr(source, "decode_images", None)
    progress = Counted()
    write(images, "set", progress=progress)
    assert {path: path.stat().st_mtime_ns for path in Path("set").rglob("*")} == before
    assert progress.tasks == {"corrupt": {"pieces": 24, "before": 24, "made": 0}}


class Stop(BaseException):
    """Ends a command as a signal does: nothing catches it."""


def stop_at(monkeypatch, owner, name, count, after=False):
    """Raise at the `count`-th call of a method, before or after its work."""
    genuine, calls = getattr(owner, name), []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == count and not after:
            raise Stop
        result = genuine(*arguments)
        if len(calls) == count:
            raise Stop
        return result

    monkeypatch.setattr(owner, name, stopping)


MOMENTS = [
    ("place", 1, False),  # in the first cell
    ("place", 5, False),  # in the middle of the second
    ("place", 6, True),  # after the last batch of the second, before it is noted
    ("place", 8, True),
    ("begin", 1, False),
    ("begin", 2, True),
    ("publish", 2, False),  # noted, not published
    ("publish", 3, False),
    ("publish", 3, True),
    ("publish", 6, False),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.sample("moment")
def test_stopped_command_goes_on_to_the_same_bytes(layout, moment, images, monkeypatch):
    monkeypatch.setitem(source.VALUES, "cpu", 2 * 3 * 32 * 32)  # three batches a cell
    write(images, "whole", layout=layout)
    owner = level_files.Arrays if layout == "npy" else level_files.Tree
    method, count, after = moment
    with monkeypatch.context() as patch:
        stop_at(patch, owner, method, count, after)
        with pytest.raises(Stop):
            write(images, "stopped", layout=layout)
    for path in Path("stopped").glob("*.npy"):
        assert path.read_bytes() == Path("whole", path.name).read_bytes()
    progress = Counted()
    write(images, "stopped", layout=layout, progress=progress)
    assert content(Path("stopped")) == content(Path("whole"))
    (task,) = progress.tasks.values()
    assert task["before"] + task["made"] == task["pieces"] == 24


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 2, 5, 7])  # of: at first, two begun, four finished
@pytest.mark.sample("count")
def test_stopped_while_the_description_is_written(layout, count, images, monkeypatch):
    write(images, "whole", layout=layout)
    with monkeypatch.context() as patch:
        stop_at(patch, About, "write", count)
        with pytest.raises(Stop):
            write(images, "stopped", layout=layout)
    write(images, "stopped", layout=layout)
    assert content(Path("stopped")) == content(Path("whole"))


def test_at_most_one_cell_is_lost(images, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, level_files.Arrays, "place", 4)
        with pytest.raises(Stop):
            write(images, "set")
    assert read_about(Path("set")).parts["contrast"].finished == (1,)
    progress = Counted()
    write(images, "set", progress=progress)
    assert progress.tasks["corrupt"] == {"pieces": 24, "before": 18, "made": 6}


def test_half_written_files_have_no_final_name(images, monkeypatch):
    for layout in LAYOUTS:
        owner = level_files.Arrays if layout == "npy" else level_files.Tree
        with monkeypatch.context() as patch:
            stop_at(patch, owner, "place", 1, after=True)
            with pytest.raises(Stop):
                write(images, layout, layout=layout)
    assert {p.name for p in Path("npy").iterdir() if p.name[0] != "."} == {ABOUT, LABELS}
    assert [p.name for p in Path("folder/gaussian_noise").iterdir()] == [".1.part"]


def test_rests_of_a_killed_command_are_removed_and_no_obstacle(images):
    Path("set").mkdir()
    Path(f"set/.{ABOUT}.123.tmp").write_text("half of")
    write(images, "set")
    Path("set/.labels.npy.123.tmp").write_text("half of")
    write(images, "set")
    assert not list(Path("set").glob(".*"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_further_corruptions_are_added(layout, images):
    write(images, "whole", Treatment(("contrast", "fog"), (1,)), layout)
    write(images, "set", Treatment(("fog",), (1,)), layout)
    progress = Counted()
    write(images, "set", Treatment(("contrast",), (1,)), layout, progress)
    assert progress.tasks["corrupt"] == {"pieces": 6, "before": 0, "made": 6}
    left, right = content(Path("set")), content(Path("whole"))
    assert read_about(Path("set")).parts == read_about(Path("whole")).parts
    assert {n: b for n, b in left.items() if n != ABOUT} == {
        n: b for n, b in right.items() if n != ABOUT
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", ["version", "variant"])
def test_part_of_another_version_is_made_anew_and_hidden_meanwhile(
    layout, key, images, monkeypatch
):
    write(images, "whole", layout=layout)
    write(images, "set", layout=layout)
    about = json.loads(Path("set", ABOUT).read_text())
    del about["digest"]
    about["parts"]["contrast"][key] = {"version": 0, "variant": "another"}[key]
    Path("set", ABOUT).write_text(json.dumps(about))
    old = "set/contrast.npy" if layout == "npy" else "set/contrast/1/digit-0/0000.JPEG"
    Path(old).write_bytes(b"old")
    with monkeypatch.context() as patch:
        stop_at(patch, level_files.Arrays if layout == "npy" else level_files.Tree, "place", 1)
        with pytest.raises(Stop):
            write(images, "set", layout=layout)
    assert not Path(old).exists()
    progress = Counted()
    write(images, "set", layout=layout, progress=progress)
    assert progress.tasks["corrupt"] == {"pieces": 24, "before": 12, "made": 12}
    assert content(Path("set")) == content(Path("whole"))


@pytest.mark.parametrize("what", ["removed", "cut off"])
def test_array_that_is_gone_or_cut_off_is_made_anew(what, images):
    write(images, "set")
    whole = content(Path("set"))
    path = Path("set/contrast.npy")
    path.write_bytes(whole["contrast.npy"][:-1]) if what == "cut off" else path.unlink()
    write(images, "set")
    assert content(Path("set")) == whole


def test_folder_that_is_gone_is_made_anew(images):
    write(images, "set", layout="folder")
    whole = content(Path("set"))
    Path("set/contrast/4").rename("elsewhere")
    progress = Counted()
    write(images, "set", layout="folder", progress=progress)
    assert content(Path("set")) == whole
    assert progress.tasks["corrupt"]["made"] == 6


@pytest.mark.parametrize("what", ["image", "class"])
def test_severity_without_all_files_is_made_anew_and_hidden_meanwhile(what, images, monkeypatch):
    write(images, "set", layout="folder")
    whole = content(Path("set"))
    gone = Path("set/contrast/4/digit-1")
    shutil.rmtree(gone) if what == "class" else (gone / "0001.JPEG").unlink()
    with monkeypatch.context() as patch:
        stop_at(patch, level_files.Tree, "place", 1)
        with pytest.raises(Stop):
            write(images, "set", layout="folder")
    assert {path.name for path in Path("set/contrast").iterdir()} == {"1"}
    progress = Counted()
    write(images, "set", layout="folder", progress=progress)
    assert content(Path("set")) == whole
    assert progress.tasks["corrupt"] == {"pieces": 24, "before": 18, "made": 6}


def test_damaged_labels_are_written_again(images):
    write(images, "set")
    whole = content(Path("set"))
    Path("set/labels.npy").write_bytes(b"")
    write(images, "set")
    assert content(Path("set")) == whole


# What is refused.


@pytest.mark.parametrize(
    ("treatment", "layout", "sentence"),
    [
        (Treatment(FEW.corruptions, (1, 4), seed=1), "npy", "with --seed 0, not 1; choose another"),
        (Treatment(FEW.corruptions, (1, 4), scale=64), "npy", "with --scale 32, not 64; choose"),
        (Treatment(FEW.corruptions, (1, 5)), "npy", "with --severity 1, 4, not 1, 5; choose"),
        (FEW, "folder", "with --format npy, not folder; choose another folder"),
        (Treatment(("fog",), (1,), 2), "npy", "--seed 0, not 2 and with --severity 1, 4, not 1;"),
    ],
)
def test_set_made_otherwise_is_refused(treatment, layout, sentence, images):
    write(images, "set")
    before = content(Path("set"))
    with told(f"^the set in set was made .*{sentence}"):
        write(images, "set", treatment, layout)
    assert content(Path("set")) == before


def test_set_of_other_images_is_refused(images, image_tree):
    write(images, "set")
    other = image_tree("other", classes=3, train=1, test=3)
    with told("^the set in set was made from other images; choose another folder$"):
        write(other, "set")


def test_changed_image_is_noticed(images):
    write(images, "set")
    path = images / "test" / "digit-0" / "0000.png"
    Image.open(path).rotate(90).save(path)
    with told("was made from other images"):
        write(images, "set")


def test_folder_with_other_files_is_refused(images):
    Path("set").mkdir()
    Path("set/fog.npy").write_bytes(b"official")
    with told(r"^set holds fog.npy and is not a set that selbench wrote; choose another folder$"):
        write(images, "set")
    assert content(Path("set")) == {"fog.npy": b"official"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_file_that_selbench_did_not_write_is_not_overwritten(layout, images):
    write(images, "set", layout=layout)
    place = Path("set/fog.npy" if layout == "npy" else "set/fog")
    place.write_bytes(b"official")
    with told(f"^{place} is there, and selbench did not write it; move it away or choose"):
        write(images, "set", Treatment(("fog",), (1, 4)), layout)
    assert place.read_bytes() == b"official"


@pytest.mark.parametrize("output", ["images", "images/new", "images/test/digit-0"])
def test_output_in_the_input_is_refused(output, images):
    before = content(images)
    with told(rf"^OUTPUT {output} is in the folder .*images that is corrupted; choose one out"):
        write(images, output)
    with told(rf"^OUTPUT {output} is in the folder"):
        write_set(open_source("folder", images, SILENT), Path(output), FEW, "npy", CPU)
    new = {name for name in content(images) if not name.startswith(".")}
    assert new == set(before)


def test_output_that_is_a_file_is_refused(images):
    Path("set").touch()
    with told(r"^set is a file; name a folder \(OUTPUT\)$"):
        write(images, "set")


def test_damaged_description_is_named(images):
    write(images, "set")
    Path("set", ABOUT).write_text('{"format": 1}')
    with told(f"^set/{ABOUT} is damaged or of another version"):
        write(images, "set")


def test_several_sizes_need_folders(photographs):
    with told(
        "^the image 2 is 40 x 32 pixels, 0 is 32 x 40; a .npy file holds images of one "
        "size; use --format folder for any sizes$"
    ):
        write(photographs, "set", Treatment(scale=64))
    assert not Path("set").exists()


def test_sizes_without_constants_need_a_scale(photographs, image_tree):
    sentence = r"there are constants for 32 x 32, .*: choose them with --scale 32, 64 or 224$"
    with told(f"^the images are 24 x 24 pixels and other sizes; {sentence}"):
        write(photographs, "set", FEW, "folder")
    with told(f"^the images are 48 x 48 pixels; {sentence}"):
        write(image_tree("odd", side=48), "set")
    assert not Path("set").exists()


def test_tiny_images_are_refused(image_tree):
    with told("^an image is 8 x 8 pixels; corruptions need at least 9 a side, enlarge it$"):
        write(image_tree("tiny", side=8), "set", Treatment(scale=32))
    assert not Path("set").exists()


@pytest.mark.parametrize(("layout", "size"), [("npy", 30_000), ("npy", 100), ("folder", 2000)])
def test_full_disk_is_one_sentence_and_the_command_goes_on_later(
    layout, size, image_tree, room_for
):
    images = image_tree(classes=3, train=1, test=2, side=64)
    write(images, "whole", layout=layout)
    with room_for(size), told(r"^cannot write set.*; make room .* folder \(OUTPUT\)$") as found:
        write(images, "set", layout=layout)
    assert os.strerror(errno.EFBIG) in str(found.value)
    assert not list(Path("set").glob(".*"))
    write(images, "set", layout=layout)
    assert content(Path("set")) == content(Path("whole"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_disk_leaves_what_is_finished(layout, images, monkeypatch):
    write(images, "whole", layout=layout)
    owner = level_files.Arrays if layout == "npy" else level_files.Tree
    genuine = owner.place

    def place(self, name, severity, *rest):
        if (name, severity) == ("contrast", 4):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(self, name, severity, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(owner, "place", place)
        with told("^cannot write set: No space left on device"):
            write(images, "set", layout=layout)
    progress = Counted()
    write(images, "set", layout=layout, progress=progress)
    assert progress.tasks["corrupt"] == {"pieces": 24, "before": 18, "made": 6}
    assert content(Path("set")) == content(Path("whole"))


def test_folder_without_permission_is_told(images, monkeypatch):
    def forbidden(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "set/.fog.npy.part")

    monkeypatch.setattr(level_files.Arrays, "begin", forbidden)
    with told("^cannot write set/.fog.npy.part: Permission denied; .*OUTPUT"):
        write(images, "set")
