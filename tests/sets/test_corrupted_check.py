"""The self-check finds a single changed byte, and what is equal equal."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT
from selbench.datasets import DATASETS, Dataset
from selbench.datasets.dataset import make_split
from selbench.sets import conformity
from selbench.sets import source as sources
from selbench.sets.conformity import Comparison, FileDigest, check, old_npy_header, summary
from selbench.sets.layout import ABOUT, npy_header
from selbench.sets.releases import PUBLISHED
from selbench.sets.source import open_source
from selbench.sets.treatment import Treatment
from selbench.sets.writing import write_set

CPU = torch.device("cpu")
FIXED = [
    name for name, each in CORRUPTIONS.items() if name in PUBLISHED["cifar10"] and not each.random
]
FEW = ("brightness", "contrast", "pixelate")


def run(name, against=None, chosen=tuple(CORRUPTIONS), scale=None):
    against = None if against is None else Path(against)
    return check(open_source(str(name), None, SILENT), chosen, scale, against, CPU)


def write(images, output, names=FEW, severities=(1, 2, 3, 4, 5), **options):
    treatment = Treatment(tuple(names), severities, **options)
    return write_set(open_source(str(images), None, SILENT), Path(output), treatment, "npy", CPU)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return where to keep one corrupted set that tests copy."""
    return tmp_path_factory.mktemp("published") / "published"


@pytest.fixture
def cifar10(published, monkeypatch):
    """Put twelve images in the place of CIFAR-10's, and return the md5s of its corrupted set."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 3, 32, 32), dtype=torch.uint8, generator=generator)
    split = make_split(pixels, torch.arange(12) % 10)

    def small(root, progress):
        return Dataset("cifar10", tuple("0123456789"), split, split)

    monkeypatch.setitem(DATASETS._functions, "cifar10", small)
    monkeypatch.setitem(sources.VALUES, "cpu", 5 * 3 * 32 * 32)  # uneven batches
    if not published.exists():
        write("cifar10", published, FIXED)
    shutil.copytree(published, "published")
    md5s = {path.stem: hashlib.md5(path.read_bytes()).hexdigest() for path in npys("published")}
    monkeypatch.setattr(conformity, "PUBLISHED", {"cifar10": dict(md5s)})
    return md5s


def npys(folder):
    return sorted(Path(folder).glob("*.npy"))


def match(sentence):
    return pytest.raises(SelbenchError, match=sentence)


def test_eight_corruptions_draw_nothing_and_have_a_published_md5():
    assert len(FIXED) == 8
    assert set(PUBLISHED["cifar10"]) - {"labels"} <= set(CORRUPTIONS)


@pytest.mark.parametrize("shape", [(50_000, 32, 32, 3), (50_000,), (7,), (10, 224, 224, 3)])
def test_headers_are_those_of_numpy(shape):
    new, old = npy_header(shape), old_npy_header(shape)
    assert (len(new) % 64, len(old) % 16) == (0, 0)
    facts = str({"descr": "|u1", "fortran_order": False, "shape": shape})[:-1] + ", }"
    for header in (new, old):
        assert header[:8] == b"\x93NUMPY\x01\x00"
        assert int.from_bytes(header[8:10], "little") == len(header) - 10
        assert header[10:].decode().rstrip(" \n") == facts
        assert header[-1:] == b"\n"
    assert 1 <= len(old) - 10 - len(facts) - 1 <= 16
    values = np.zeros(shape[:1], np.uint8)
    Path("old.npy").write_bytes(old_npy_header(values.shape) + values.tobytes())
    assert np.array_equal(np.load("old.npy"), values)


def test_old_header_is_that_of_numpy_1_13():
    # len(facts) + 11 = 80 needs no padding, and numpy padded with a whole 16 all the same
    shape = next((n,) for n in (10**k for k in range(40)) if (len(str(n)) + 66) % 16 == 0)
    assert len(old_npy_header(shape)) == len(str(shape[0])) + 66 + 16


def test_digest_is_that_of_the_file():
    values = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    digest = FileDigest(values.shape)
    digest.update(values[:2])
    digest.update(values[2:])
    np.save("new.npy", values)
    assert digest.matches(hashlib.md5(Path("new.npy").read_bytes()).hexdigest())
    old = old_npy_header(values.shape) + values.tobytes()
    assert digest.matches(hashlib.md5(old).hexdigest())
    assert not digest.matches(hashlib.md5(values.tobytes()).hexdigest())


# With the published md5s.


@pytest.mark.soak
def test_all_md5s_are_found_equal(cifar10):
    findings = run("cifar10")
    assert [finding.name for finding in findings] == ["labels", *FIXED]
    assert all(finding.published for finding in findings)
    assert summary(findings, None) == "8 of 8 corruptions equal the published files byte for byte."


def test_headers_of_old_numpy_are_accepted(cifar10, monkeypatch):
    for path in npys("published"):
        values = np.load(path)
        old = hashlib.md5(old_npy_header(values.shape) + values.tobytes()).hexdigest()
        monkeypatch.setitem(conformity.PUBLISHED["cifar10"], path.stem, old)
    assert all(finding.published for finding in run("cifar10"))


def test_another_md5_is_a_finding(cifar10, monkeypatch):
    monkeypatch.setitem(conformity.PUBLISHED["cifar10"], "contrast", "0" * 32)
    findings = run("cifar10", chosen=("contrast", "fog", "pixelate"))
    assert {f.name: f.published for f in findings} == {
        "labels": True,
        "contrast": False,
        "pixelate": True,
    }
    assert summary(findings, None) == (
        "1 of 2 corruptions equal the published files byte for byte (not contrast)."
    )


def test_a_corruption_without_a_published_file_is_no_finding(cifar10, monkeypatch):
    monkeypatch.delitem(conformity.PUBLISHED["cifar10"], "contrast")
    findings = run("cifar10", chosen=("contrast", "pixelate"))
    assert {f.name: f.published for f in findings}["contrast"] is None
    assert summary(findings, None) == "1 of 1 corruptions equal the published files byte for byte."


def test_other_labels_are_refused_before_anything_is_made(cifar10, monkeypatch):
    monkeypatch.setitem(conformity.PUBLISHED["cifar10"], "labels", "0" * 32)
    monkeypatch.setattr(Treatment, "apply", None)
    with match("^the labels are not those of CIFAR-10-C, so these are not its test images"):
        run("cifar10")


def test_md5s_and_values_are_compared_together(cifar10):
    write("cifar10", "few", ("contrast",), (2, 5))
    findings = run("cifar10", "few")
    assert {f.name: f.published for f in findings} == dict.fromkeys(["labels", *FIXED], True)
    beside = {f.name: [each.severity for each in f.beside] for f in findings if f.beside}
    assert beside == {"labels": [None], "contrast": [2, 5]}


# With other files.


def test_written_set_is_found_equal(images):
    write(images, "set")
    findings = run(images, "set")
    assert [finding.name for finding in findings] == ["labels", *FEW]
    assert all(finding.published is None for finding in findings)
    for finding in findings[1:]:
        assert finding.beside == tuple(Comparison(s, 18432, 18432, 0) for s in range(1, 6))
    assert findings[0].beside == (Comparison(None, 30, 30, 0),)
    assert summary(findings, Path("set")) == (
        "100 % of the values in set are equal, the largest difference is 0."
    )


def test_one_changed_byte_is_found(images):
    write(images, "set")
    values = np.load("set/pixelate.npy", mmap_mode="r+")
    row = 6 * 3 + 2  # of severity 4
    values[row, 5, 6, 1] ^= 128
    values.flush()
    del values
    findings = {finding.name: finding for finding in run(images, "set")}
    assert findings["pixelate"].beside[3] == Comparison(4, 18431, 18432, 128)
    changed = [c for f in findings.values() for c in f.beside if c.largest]
    assert changed == [findings["pixelate"].beside[3]]
    assert summary(list(findings.values()), Path("set")) == (
        "99.9996 % of the values in set are equal, the largest difference is 128 (pixelate at "
        "severity 4)."
    )


def test_other_labels_in_the_folder_are_a_finding(images):
    write(images, "set")
    labels = np.load("set/labels.npy")
    np.save("set/labels.npy", np.roll(labels, 1))
    assert run(images, "set")[0].beside == (Comparison(None, 15, 30, 2),)


def test_severities_and_scale_are_those_of_the_set(images):
    write(images, "set", ("contrast",), (2, 4), scale=224)
    (finding,) = run(images, "set", ["contrast"])[1:]
    assert [each.severity for each in finding.beside] == [2, 4]
    assert all(each.largest == 0 for each in finding.beside)
    (finding,) = run(images, "set", ["contrast"], scale=32)[1:]
    assert all(each.largest > 0 for each in finding.beside)


def test_set_that_says_nothing_of_itself_has_five_severities(images):
    write(images, "set")
    Path("set", ABOUT).unlink()
    assert all(c.largest == 0 for f in run(images, "set") for c in f.beside)


def test_images_without_classes_are_compared_too(images):
    write(images / "test" / "digit-1", "set")
    assert [finding.name for finding in run(images / "test" / "digit-1", "set")] == [*FEW]


def test_values_are_compared_while_the_files_stay_on_disk(images, monkeypatch):
    write(images, "set")
    opened = []
    genuine = conformity.open_array

    def recording(*arguments):
        opened.append(genuine(*arguments))
        return opened[-1]

    monkeypatch.setattr(conformity, "open_array", recording)
    run(images, "set")
    assert all(isinstance(array, np.memmap) for array in opened)


# What is refused.


def test_random_corruptions_cannot_be_compared(images):
    with match("^fog and frost draw random numbers or are of C-bar; --self-check compares def"):
        run(images, "set", ["fog", "frost"])
    with match(
        "^circular_motion_blur draw random numbers or are of C-bar; --self-check compares def"
    ):
        run(images, "set", ["circular_motion_blur"])


def test_without_cifar10_and_files_there_is_nothing_to_compare(images):
    with match(
        "^the published md5s are those of cifar10 and cifar100; give --against FOLDER to compare"
    ):
        run(images)


def test_folder_without_files_is_named(images):
    Path("set").mkdir()
    with match("^set holds no contrast.npy or pixelate.npy$"):
        run(images, "set", ["contrast", "pixelate"])


def test_cut_off_file_is_named(images):
    write(images, "set")
    path = Path("set/contrast.npy")
    path.write_bytes(path.read_bytes()[:-5])
    with match("^set/contrast.npy is cut off or damaged"):
        run(images, "set")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("contrast", np.zeros((10, 32, 32, 3), np.uint8)),
        ("contrast", np.zeros((30, 32, 32, 3), np.int32)),
        ("contrast", np.zeros((30, 3, 32, 32), np.uint8)),
        ("labels", np.zeros(29, np.uint8)),
    ],
)
def test_misshapen_file_is_named(name, values, images):
    write(images, "set")
    np.save(f"set/{name}.npy", values)
    shape = "(30,)" if name == "labels" else "(30, 32, 32, 3)"
    with match(
        re.escape(
            f"set/{name}.npy holds {values.dtype} of shape {values.shape}; expected is uint8 of "
            f"shape {shape}"
        )
    ):
        run(images, "set")


def test_set_in_folders_is_no_set_of_arrays(images):
    treatment = Treatment(("contrast",), (1,))
    write_set(open_source(str(images), None, SILENT), Path("set"), treatment, "folder", CPU)
    with match("^set holds no .*contrast.npy or"):
        run(images, "set")


def test_damaged_description_is_named(images):
    write(images, "set")
    Path("set", ABOUT).write_text(json.dumps({"format": 7}))
    with match(f"^set/{ABOUT} is damaged or of another version"):
        run(images, "set")
    shutil.rmtree("set")
