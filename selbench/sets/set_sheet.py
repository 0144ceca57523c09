"""A contact sheet of a set on disk, next to the clean images."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from corruptions import CORRUPTIONS
from corruptions.registry import ALL_FAMILIES
from selbench._kit.errors import SelbenchError
from selbench.datasets import Dataset
from selbench.sets.layout import SEVERITIES
from selbench.sets.reading import CorruptedSet
from selbench.sets.sheet import Answers, Family, Row, choose, draw_sheet, save_sheet, side_by_side
from selbench.sets.shifted import ShiftedSet
from selbench.sets.source import source_of
from selbench.sets.stored import Stored

SHOWN = 5  # classes of shifted images, and images per class


def write_set_sheet(
    found: CorruptedSet | ShiftedSet,
    dataset: Dataset,
    names: Sequence[str],
    severities: Sequence[int],
    path: Path,
    answers: Answers | None = None,
) -> str:
    """Draw images of a set into a PNG file at `path`, and return a sentence on it.

    Args:
        found: the set.
        dataset: the data set of the clean images.
        names: the corruptions to show, if the set holds them.
        severities: the severities to show.
        path: the file.
        answers: a network's answers, which colour the frames.

    Raises:
        SelbenchError: if the set holds none of the corruptions.
    """
    if isinstance(found, ShiftedSet):
        families, severities = [_of_classes(found, dataset, answers)], SEVERITIES
        shown = f"{len(families[0].rows)} classes"
    else:
        families = _of_corruptions(found, dataset, names, severities, answers)
        shown = ", ".join(row.name for family in families for row in family.rows)
    save_sheet(draw_sheet(families, severities, answers), path)
    return f"{path} shows {shown} of {found.folder}"


def _of_corruptions(
    found: CorruptedSet,
    dataset: Dataset,
    names: Sequence[str],
    severities: Sequence[int],
    answers: Answers | None,
) -> list[Family]:
    held = [name for name in names if found.holds(name)]
    if not held:
        raise SelbenchError(
            f"{found.folder} holds none of {', '.join(names[:SHOWN])}"
            f"{', ...' if len(names) > SHOWN else ''}; name a corruption of it with --corruption"
        )
    source = source_of(dataset.name, dataset, None)
    chosen = choose(source)
    labels = [int(dataset.test.labels[rows.start]) for rows in chosen]
    clean = side_by_side([source.read(rows) for rows in chosen], labels, answers)
    families: dict[str, list[Row]] = {family: [] for family in ALL_FAMILIES}
    for name in held:
        stored = found.find(name)
        cells = [
            side_by_side([_alike(stored[each], dataset, r.start) for r in chosen], labels, answers)
            if each in stored
            else Image.new("RGB", clean.size, "white")
            for each in severities
        ]
        families[CORRUPTIONS[name].family].append(Row(name, [clean, *cells]))
    return [Family(name, rows) for name, rows in families.items() if rows]


def _alike(stored: Stored, dataset: Dataset, place: int) -> torch.Tensor:
    """Return the corrupted image of a clean one, or one of its class if the order is unknown."""
    if not stored.paired:
        place = int((stored.labels == dataset.test.labels[place]).nonzero()[0])
    return stored.read(torch.tensor([place]))


def _of_classes(found: ShiftedSet, dataset: Dataset, answers: Answers | None) -> Family:
    """Return shifted images of the first classes, in rows next to a clean image of the class."""
    stored, test, rows = found.find(), dataset.test, []
    for number in stored.labels.unique()[:SHOWN].tolist():
        places = (stored.labels == number).nonzero().flatten()[:SHOWN]
        cells = [side_by_side([image[None]], [number], answers) for image in stored.read(places)]
        first = (test.labels == number).nonzero().flatten()[:1]
        blank = Image.new("RGB", cells[0].size, "white")
        clean = side_by_side([test.take(first).images], [number], answers) if len(first) else blank
        cells += [blank] * (SHOWN - len(cells))
        rows.append(Row(dataset.classes[number], [clean, *cells]))
    return Family(found.name, rows)
