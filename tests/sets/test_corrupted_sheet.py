"""The contact sheet: one row a corruption, one column a severity, the same bytes every time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from corruptions import CORRUPTIONS, corrupt
from corruptions.registry import ALL_FAMILIES
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT
from selbench.datasets.images import decode_image, decode_images
from selbench.sets import sheet
from selbench.sets.sheet import RIGHT, WRONG, Answers, Family, Row, draw_sheet, write_sheet
from selbench.sets.source import open_source
from selbench.sets.treatment import Treatment

CPU = torch.device("cpu")
INKS = [(230, 20, 20), (20, 160, 20), (20, 20, 230), (230, 160, 20)]  # of cells


def write(images, path="sheet.png", treatment=None):
    source = open_source(str(images), None, SILENT)
    write_sheet(source, Path(path), treatment or Treatment(("contrast", "fog"), (1, 4)), CPU)
    return decode_image(Path(path))


def places(picture, pixels):
    """Return the left upper corners of exact copies of `pixels` in `picture`."""
    height, width = pixels.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width, 3))[:, :, 0]
    # a few pixels rule nearly all places out
    found = np.ones(windows.shape[:2], bool)
    for row, column in ((height // 2, width // 2), (height // 3, width // 4), (1, 1)):
        found &= (windows[:, :, row, column] == pixels[row, column]).all(-1)
    return [(x, y) for y, x in np.argwhere(found) if np.array_equal(windows[y, x], pixels)]


def enlarged(image):
    """Repeat every pixel thrice, without the outermost, which the frame covers."""
    return image.permute(1, 2, 0).numpy().repeat(3, 0).repeat(3, 1)[1:-1, 1:-1]


def test_sheet_shows_what_corrupt_makes_of_two_images_of_unlike_classes(image_tree):
    images = image_tree(classes=2, train=1, test=2)
    picture = write(images)
    paths = sorted((images / "test").rglob("*.png"))
    clean = decode_images([paths[0], paths[2]], SILENT, "")
    examples = torch.tensor([0, 2])
    columns, rows = [], []
    for name in ("fog", "contrast"):
        made = [corrupt(clean, name, severity, examples=examples) for severity in (1, 4)]
        for number in range(2):
            spots = [places(picture, enlarged(each[number])) for each in made]
            assert [len(each) for each in spots] == [1, 1]
            ((left, top),), ((right, other),) = spots
            assert top == other
            assert left < right
            columns.append((left, right))
            rows.append(top)
    assert columns[:2] == columns[2:]  # aligned below each other
    assert rows[0] == rows[1] < rows[2] == rows[3]  # weather above digital
    for image in clean:
        assert [y for _, y in sorted(places(picture, enlarged(image)), key=lambda p: p[1])] == [
            rows[0],
            rows[2],
        ]


def test_two_sheets_are_the_same_bytes(image_tree):
    images = image_tree()
    write(images, "one.png")
    write(images, "other.png")
    assert Path("one.png").read_bytes() == Path("other.png").read_bytes()
    assert Path("one.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in Path().glob("*.*")} == {"one.png", "other.png"}


def test_large_images_are_shrunk_and_shown_alone(tmp_path):
    (tmp_path / "large").mkdir()
    for number in range(2):
        Image.new("RGB", (400, 200), (200, 30 * number, 0)).save(f"large/{number}.png")
    picture = write("large", treatment=Treatment(("contrast",), (1, 2), scale=224))
    reds = (picture == (200, 0, 0)).all(-1)
    assert reds.sum(0).max() == 80 - 2  # within the frame
    assert reds.sum(1).max() == 160 - 2
    assert not (picture == (200, 30, 0)).all(-1).any()


def test_one_small_image_is_shown_alone(image_tree):
    alone = write(image_tree("a", classes=1, train=1, test=1))
    pair = write(image_tree("b", classes=1, train=1, test=2))
    assert alone.shape[0] == pair.shape[0]
    assert alone.shape[1] < pair.shape[1]


def rows(names, severities=2):
    """Return families of rows whose cells are of one colour each."""
    cells = [Image.new("RGB", (40, 30), INKS[n]) for n in range(1 + severities)]
    return [
        Family(family, [Row(name, cells) for name in names if CORRUPTIONS[name].family == family])
        for family in ALL_FAMILIES
        if any(CORRUPTIONS[name].family == family for name in names)
    ]


def corners(picture, colour):
    """Return the left upper corners of the areas of a colour."""
    alike = (np.asarray(picture) == colour).all(-1)
    inner = alike & ~np.roll(alike, 1, 0) & ~np.roll(alike, 1, 1)
    return {(int(x), int(y)) for y, x in np.argwhere(inner)}


def test_all_corruptions_are_in_two_panels():
    nineteen = [name for name, each in CORRUPTIONS.items() if not each.bar]
    picture = draw_sheet(rows(nineteen), (1, 2))
    clean, first, second = (corners(picture, ink) for ink in INKS[:3])
    assert len(clean) == len(first) == len(second) == len(nineteen)
    assert len({x for x, _ in clean}) == 2
    counts = sorted(sum(x == column for x, _ in clean) for column in {x for x, _ in clean})
    assert counts == [9, 10]
    assert {(x + 51, y) for x, y in clean} == first  # 40 wide, 11 apart
    assert {(x + 102, y) for x, y in clean} == second
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_few_corruptions_are_in_one_panel():
    picture = draw_sheet(rows(["fog", "contrast", "snow"]), (3, 5))
    assert len({x for x, _ in corners(picture, INKS[0])}) == 1


def test_names_and_severities_are_written():
    plain = rows(["fog"])
    renamed = [Family("weather", [Row("frost", plain[0].rows[0].cells)])]
    picture, other = (np.asarray(draw_sheet(each, (1, 2))) for each in (plain, renamed))
    assert picture.shape != other.shape or not np.array_equal(picture, other)
    assert not np.array_equal(picture, np.asarray(draw_sheet(plain, (1, 3))))


def test_drawn_text_stays_in_its_column():
    picture = np.asarray(draw_sheet(rows(CORRUPTIONS), (1, 2)))
    dark = (picture < 60).all(-1)
    assert dark.any()
    lefts = sorted({x for x, _ in corners(Image.fromarray(picture), INKS[0])})
    margin = sheet.MARGIN
    assert not dark[:, :margin].any()
    assert not dark[:, lefts[0] - 4 : lefts[0] + 3 * 51 + sheet.SPINE // 2].any()


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet", "sheet.npy"])
def test_only_png_is_written(name, image_tree):
    sentence = f"^--preview writes a PNG file; call {name} sheet.png$"
    with pytest.raises(SelbenchError, match=sentence):
        write(image_tree(), name)
    assert not Path(name).exists()


def test_sheet_that_cannot_be_written_is_told(image_tree):
    Path("taken").touch()
    with pytest.raises(SelbenchError, match=r"^cannot write taken/sheet.png: .*\(--preview\)$"):
        write(image_tree(), "taken/sheet.png")


def test_frames_say_whether_a_network_is_right(image_tree):
    """It gives dark images to class 0 and light ones to class 1; of the two, one is darker."""
    images = image_tree(classes=2, train=1, test=1, side=32)
    source = open_source(str(images), None, SILENT)
    clean = [source.read(rows).float().mean() for rows in (range(1), range(1, 2))]
    threshold, lighter = sum(clean) / 2, int(clean[1] > clean[0])

    def predict(pixels):
        light = pixels.float().mean((1, 2, 3)) > threshold
        return light.long() if lighter else (~light).long()

    answers = Answers("a threshold", predict)
    treatment = Treatment(("brightness",), (5,))
    write_sheet(source, Path("sheet.png"), treatment, CPU, answers=answers)
    picture = decode_image(Path("sheet.png"))
    brighter = [
        corrupt(source.read(r), "brightness", 5, examples=torch.tensor([r.start]))
        for r in (range(1), range(1, 2))
    ]
    wanted = [True, True, *(bool(predict(b)[0] == n) for n, b in enumerate(brighter))]
    assert answers.right == wanted
    assert False in wanted  # the darker one is light now
    shown = [source.read(range(1)), source.read(range(1, 2)), *brighter]
    for image, right in zip(shown, wanted, strict=True):
        inner = image[0].permute(1, 2, 0).numpy().repeat(3, 0).repeat(3, 1)[3:-3, 3:-3]
        spots = places(picture, inner)
        assert len(spots) == 1
        left, top = spots[0]
        colour = RIGHT if right else WRONG
        assert "#" + bytes(picture[top - 1, left - 1]).hex() == colour
    assert answers.count == f"right on {sum(wanted)} of 4 images"
