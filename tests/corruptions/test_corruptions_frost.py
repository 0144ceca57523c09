"""Where the pictures of frost come from, and that a result tells."""

import re
import shutil
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corruptions import CORRUPTIONS, FrostError, corrupt, look_for_frost_in
from corruptions.frost import PHOTOGRAPHS, Source, frost_pictures, frost_source

BLACK = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
EXAMPLES = torch.arange(40)
LEVELS = [18, 36, 54, 72, 90]  # 0.45 times 40, 80, ..., 200


def draw_pictures(folder: Path, lighter: int = 0) -> Path:
    """Make five plain pictures of the grey levels 40, 80, ..., 200."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(PHOTOGRAPHS, start=1):
        pixels = np.full((320 + number, 500, 3), 40 * number + lighter, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Name a folder with plain pictures."""
    monkeypatch.setenv("SELBENCH_FROST", str(tmp_path / "pictures"))
    return draw_pictures(tmp_path / "pictures")


@pytest.fixture
def carrier(tmp_path, monkeypatch, request):
    """Install a package that cannot be imported; return the folder where it may keep pictures."""
    name = f"carrier_for_{request.node.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("corruptions.frost.PACKAGE", name)
    yield tmp_path / name / "frost"
    assert name not in sys.modules


def variant() -> str:
    return CORRUPTIONS["frost"].variant


def levels() -> list[int]:
    return corrupt(BLACK, "frost", 5, examples=EXAMPLES).unique().tolist()


def test_without_photographs():
    assert variant() == "procedural"
    out = corrupt(BLACK, "frost", 5, examples=EXAMPLES)
    assert out.float().mean() == pytest.approx(0.45 * 165, rel=0.1)
    assert out.float().std() > 5


def test_with_pictures_in_the_folder_named(folder):
    assert re.fullmatch("photographs [0-9a-f]{8}", variant())
    assert levels() == LEVELS  # all five occur


def test_folder_named_may_be_below_the_user_s(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("SELBENCH_FROST", f"~/{folder.name}")
    assert frost_source().folder == folder


def test_published_photographs(test_data, monkeypatch, tmp_path):
    monkeypatch.setenv("SELBENCH_FROST", str(test_data / "frost"))
    assert variant() == ""
    for name in PHOTOGRAPHS:
        shutil.copyfile(test_data / "frost" / name, tmp_path / name)
    monkeypatch.setenv("SELBENCH_FROST", str(tmp_path))
    assert variant() == ""
    with (tmp_path / "frost3.png").open("ab") as file:
        file.write(b"\0")
    assert variant().startswith("photographs ")


def test_other_bytes_have_another_variant_and_other_pictures(folder, tmp_path, monkeypatch):
    before = variant()
    assert levels() == LEVELS
    draw_pictures(folder, lighter=20)
    changed = variant()
    assert changed != before
    assert levels() == [level + 9 for level in LEVELS]
    monkeypatch.setenv("SELBENCH_FROST", str(draw_pictures(tmp_path / "elsewhere", lighter=20)))
    assert variant() == changed


def test_names_change_places(folder):
    before = variant()
    swapped = (folder / "frost1.png").read_bytes(), (folder / "frost2.png").read_bytes()
    (folder / "frost2.png").write_bytes(swapped[0])
    (folder / "frost1.png").write_bytes(swapped[1])
    assert variant() != before


def test_files_are_read_once(folder, monkeypatch):
    found = variant()

    def refuse(path):
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert variant() == found


def test_with_pictures_of_a_package(carrier):
    draw_pictures(carrier)
    assert re.fullmatch("photographs [0-9a-f]{8}", variant())
    assert levels() == LEVELS


def test_folder_named_comes_before_package(carrier, folder):
    draw_pictures(carrier, lighter=20)
    assert frost_source().folder == folder
    assert levels() == LEVELS


def test_package_without_all_pictures(carrier):
    assert variant() == "procedural"
    draw_pictures(carrier)
    (carrier / "frost4.jpg").unlink()
    assert variant() == "procedural"


def test_missing_photograph(folder):
    (folder / "frost4.jpg").unlink()
    message = f"^the folder {folder} lacks frost4.jpg; add them, or unset SELBENCH_FROST to use pro"
    with pytest.raises(FrostError, match=message):
        variant()
    with pytest.raises(FrostError, match=message):
        corrupt(BLACK, "frost", 1, examples=EXAMPLES)


def test_folder_to_look_in(tmp_path, carrier):
    draw_pictures(carrier, lighter=20)
    look_for_frost_in(tmp_path / "added")
    assert frost_source().folder == carrier  # what is not there is passed over
    draw_pictures(tmp_path / "added")
    assert frost_source().folder == tmp_path / "added"
    assert levels() == LEVELS
    look_for_frost_in(None)
    assert frost_source().folder == carrier


def test_folder_named_comes_before_folder_to_look_in(tmp_path, folder):
    look_for_frost_in(draw_pictures(tmp_path / "added", lighter=20))
    assert frost_source().folder == folder


def test_folder_to_look_in_lacks_a_photograph(tmp_path):
    look_for_frost_in(draw_pictures(tmp_path / "added"))
    (tmp_path / "added" / "frost2.png").unlink()
    message = f"^the folder {tmp_path / 'added'} lacks frost2.png; add them, or remove the folder "
    with pytest.raises(FrostError, match=message):
        variant()


@pytest.mark.parametrize("content", [b"junk", b"", None])
def test_damaged_photograph(folder, content):
    path = folder / "frost4.jpg"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    what = "cannot be read (.*)" if content is None else "is no image"
    message = f"^the photograph {path} {what}; replace it$"
    with pytest.raises(FrostError, match=message):
        variant()
    with pytest.raises(FrostError, match=message):
        corrupt(BLACK, "frost", 1, examples=EXAMPLES)


def test_images_of_many_sizes_share_pictures(monkeypatch):
    source = Source(None, "procedural")
    device = torch.device("cpu")
    first, _ = frost_pictures(source, 0.2, 32, 32, device)
    monkeypatch.setattr("corruptions.frost._procedural", None)  # made once
    assert frost_pictures(source, 0.2, 20, 48, device)[0] is first
    larger = [weakref.ref(frost_pictures(source, 0.2, n, n, device)[0]) for n in (200, 300, 400)]
    assert larger[0]() is None  # few are kept
    assert torch.equal(frost_pictures(source, 0.2, 32, 32, device)[0], first)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (400, 300), (96, 700)])
def test_pictures_are_larger_than_images(height, width):
    source = Source(None, "procedural")
    _, sizes = frost_pictures(source, 0.2, height, width, torch.device("cpu"))
    assert (sizes > torch.tensor([height, width])).all()


def test_pieces_lie_inside_the_pictures(folder):
    # outside its part of the canvas a picture is black; 0.45 * 40 = 18 is its darkest level
    wide = BLACK[:8].repeat(1, 1, 1, 3)
    assert corrupt(wide, "frost", 5, examples=EXAMPLES[:8], scale=32).min() >= 18
