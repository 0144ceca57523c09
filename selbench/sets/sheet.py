"""A contact sheet: every corruption at every severity, next to the clean images."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from corruptions import CORRUPTIONS
from corruptions.registry import ALL_FAMILIES
from selbench._kit.errors import SelbenchError
from selbench._kit.files import replacing
from selbench._kit.outputs import PICTURE, check_file
from selbench._kit.types import Labels, Pixels
from selbench.sets.source import Source
from selbench.sets.treatment import Treatment, find_variants

SMALL = 64  # pixels of a side; smaller images are enlarged, two per cell
ENLARGED, LARGEST = 96, 160  # pixels of a side after enlarging or shrinking
TALL = 10  # rows beyond which the sheet has two panels
MARGIN, SPINE, HEADING = 32, 72, 46  # pixels: around the sheet, between panels, above a family
GAP, GUTTER = 3, 11  # pixels: between the images of a cell, between cells
TEXT = 20  # pixels
INK, FAINT, FRAME = "#1a1a1a", "#6b6b6b", "#c8c8c8"
RIGHT, WRONG = "#0072b2", "#d55e00"  # blue and orange, which colour-blind readers can distinguish
THICK = 3  # pixels of a coloured frame


@dataclass(frozen=True)
class Answers:
    """A network's answers to the images on a sheet.

    Attributes:
        name: the network's name.
        predict: returns the predicted class numbers of images.
        right: for each image on the sheet, whether the prediction was right.
    """

    name: str
    predict: Callable[[Pixels], Labels]
    right: list[bool] = field(default_factory=list)

    def colour(self, image: Pixels, label: int) -> str:
        """Predict one image, and return the colour of its frame."""
        self.right.append(bool(self.predict(image) == label))
        return RIGHT if self.right[-1] else WRONG

    @property
    def count(self) -> str:
        """How many images were right, as a phrase."""
        return f"right on {sum(self.right)} of {len(self.right)} images"


@dataclass(frozen=True)
class Row:
    """A corruption's pictures: the clean cell, then one for each severity."""

    name: str
    cells: Sequence[Image.Image]


@dataclass(frozen=True)
class Family:
    """Corruptions of one kind."""

    name: str
    rows: Sequence[Row]


def check_place(path: Path, force: bool = False) -> None:
    """Raise `SelbenchError` unless `path` is a PNG file that can be written.

    With `force`, any file may be replaced.
    """
    if path.suffix.lower() != ".png":
        raise SelbenchError(f"--preview writes a PNG file; call {path} {path.stem}.png")
    check_file(path, PICTURE, "--preview", force)


def write_sheet(
    source: Source,
    path: Path,
    treatment: Treatment,
    device: torch.device,
    force: bool = False,
    answers: Answers | None = None,
) -> None:
    """Draw a few of the images under every corruption and write them to `path`, a PNG file.

    A file that selbench did not write is only replaced with `force`. With `answers`, the frame of
    each image shows whether the network is right.
    """
    check_place(path, force)
    find_variants(treatment.corruptions)  # raises for missing files
    families = _families(source, treatment, device, answers)
    save_sheet(draw_sheet(families, treatment.severities, answers), path)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet to `path`, atomically and marked as selbench's."""
    content = io.BytesIO()  # Pillow does not notice partial writes on a full disk
    facts = PngInfo()
    facts.add_text("Software", "selbench")
    sheet.save(content, "PNG", optimize=True, pnginfo=facts)
    with replacing(path, "--preview") as temporary:
        temporary.write_bytes(content.getvalue())


def _families(
    source: Source, treatment: Treatment, device: torch.device, answers: Answers | None
) -> list[Family]:
    chosen = choose(source)
    clean = [source.read(rows) for rows in chosen]
    fitted = treatment.fitted({(each.shape[2], each.shape[3]) for each in clean})
    numbers = None if source.labels is None else source.labels.tolist()
    labels = numbers and [numbers[rows.start] for rows in chosen]
    first = side_by_side(clean, labels, answers)
    families: dict[str, list[Row]] = {family: [] for family in ALL_FAMILIES}
    for name in treatment.corruptions:
        cells = [
            side_by_side(
                [fitted.apply(source, rows, name, severity, device) for rows in chosen],
                labels,
                answers,
            )
            for severity in treatment.severities
        ]
        families[CORRUPTIONS[name].family].append(Row(name, [first, *cells]))
    return [Family(name, rows) for name, rows in families.items() if rows]


def choose(source: Source) -> list[range]:
    """Return the first image and, for small images, also the first of the next class."""
    first = range(1)
    if len(source) == 1 or max(source.read(first).shape[2:]) > SMALL:
        return [first]
    second = 1
    if source.labels is not None:
        others = (source.labels != source.labels[0]).nonzero().flatten().tolist()
        second = others[0] if others else 1
    return [first, range(second, second + 1)]


def side_by_side(
    images: Sequence[Pixels],
    labels: Sequence[int] | None = None,
    answers: Answers | None = None,
) -> Image.Image:
    """Put images side by side, at their size on the sheet.

    With `answers` of a network, frames show which predictions are right.
    """
    pictures = [_scaled(Image.fromarray(_array(each))) for each in images]
    total = sum(each.width for each in pictures) + GAP * (len(pictures) - 1)
    cell = Image.new("RGB", (total, max(each.height for each in pictures)), "white")
    left = 0
    for place, picture in enumerate(pictures):
        cell.paste(picture, (left, 0))
        edge = (left, 0, left + picture.width - 1, picture.height - 1)
        colour, width = FRAME, 1
        if answers is not None and labels is not None:
            colour, width = answers.colour(images[place], labels[place]), THICK
        ImageDraw.Draw(cell).rectangle(edge, outline=colour, width=width)
        left += picture.width + GAP
    return cell


def _array(images: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = images[0].permute(1, 2, 0).numpy()
    return array


def _scaled(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    if side <= SMALL:
        factor = max(1, round(ENLARGED / side))
        size = (picture.width * factor, picture.height * factor)
        return picture.resize(size, Image.Resampling.NEAREST)
    if side <= LARGEST:
        return picture
    width, height = (max(1, round(length * LARGEST / side)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def draw_sheet(
    families: Sequence[Family], severities: Sequence[int], answers: Answers | None = None
) -> Image.Image:
    """Draw the families, in two panels side by side if one would be too high.

    If a network answered, a line below explains the frames.
    """
    panels = [_Panel(part, severities) for part in _parted(families)]
    width = 2 * MARGIN + sum(panel.width for panel in panels) + SPINE * (len(panels) - 1)
    height = 2 * MARGIN + max(panel.height for panel in panels)
    sheet = Image.new("RGB", (width, height), "white")
    left = MARGIN
    for panel in panels:
        panel.draw(sheet, left, MARGIN)
        left += panel.width + SPINE
    return sheet if answers is None else _explained(sheet, answers)


def _explained(sheet: Image.Image, answers: Answers) -> Image.Image:
    """Return the sheet with a line below that explains the colours of frames."""
    taller = Image.new("RGB", (sheet.width, sheet.height + MARGIN), "white")
    taller.paste(sheet)
    pen, font = ImageDraw.Draw(taller), ImageFont.load_default(TEXT)
    left, base = float(MARGIN), sheet.height
    words = [(RIGHT, "blue: right"), (WRONG, "orange: wrong"), (INK, answers.count)]
    for colour, text in [*words, (FAINT, answers.name)]:
        pen.text((left, base), text, colour, font, anchor="ls")
        left += font.getlength(text) + TEXT
    return taller


def _parted(families: Sequence[Family]) -> list[Sequence[Family]]:
    """Split families with too many rows into two panels, as evenly as possible."""
    counts = [len(family.rows) for family in families]
    if sum(counts) <= TALL or len(families) == 1:
        return [families]
    cut = min(range(1, len(counts)), key=lambda at: max(sum(counts[:at]), sum(counts[at:])))
    return [families[:cut], families[cut:]]


@dataclass(frozen=True)
class _Panel:
    """Families in a column, with columns for names, clean images and severities."""

    families: Sequence[Family]
    severities: Sequence[int]

    @cached_property
    def _cell(self) -> tuple[int, int]:
        return self.families[0].rows[0].cells[0].size

    @cached_property
    def _font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(TEXT)

    @cached_property
    def _names(self) -> int:
        """Width of the column of names."""
        names = [_spoken(row.name) for family in self.families for row in family.rows]
        names += [_headed(family.name) for family in self.families]
        return int(max(self._font.getlength(name) for name in names)) + GUTTER + 4

    @property
    def width(self) -> int:
        """Of the panel, in pixels."""
        columns = 1 + len(self.severities)
        return self._names + columns * (self._cell[0] + GUTTER) - GUTTER

    @property
    def height(self) -> int:
        """Of the panel, in pixels."""
        rows = sum(len(family.rows) for family in self.families)
        return len(self.families) * HEADING + rows * (self._cell[1] + GUTTER)

    def draw(self, sheet: Image.Image, left: int, top: int) -> None:
        """Draw the panel with its upper left corner at this place."""
        pen = ImageDraw.Draw(sheet)
        for family in self.families:
            self._head(pen, family.name, left, top)
            top += HEADING
            for row in family.rows:
                middle = top + self._cell[1] // 2
                names = left + self._names - GUTTER - 3
                pen.text((names, middle), _spoken(row.name), INK, self._font, anchor="rm")
                for column, cell in enumerate(row.cells):
                    sheet.paste(cell, (self._column(left, column), top))
                top += self._cell[1] + GUTTER

    def _head(self, pen: ImageDraw.ImageDraw, family: str, left: int, top: int) -> None:
        base = top + HEADING - 9
        names = left + self._names - GUTTER - 3
        pen.text((names, base), family.upper(), FAINT, self._font, anchor="rs")
        for column, word in enumerate(["clean", *map(str, self.severities)]):
            middle = self._column(left, column) + self._cell[0] // 2
            pen.text((middle, base), word, FAINT, self._font, anchor="ms")

    def _column(self, left: int, column: int) -> int:
        return left + self._names + column * (self._cell[0] + GUTTER)


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _headed(name: str) -> str:
    return _spoken(name).upper()
