"""A folder of shifted images in classes: one condition, named after the folder.

Examples are ImageNet-V2, -R, -A and -Sketch: <class>/* for some of the data set's classes, with any
number of images each.
"""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from selbench._kit.content import content_of
from selbench._kit.errors import SelbenchError, unknown
from selbench._kit.files import fingerprint
from selbench.datasets.dataset import Dataset
from selbench.datasets.frame import Frame
from selbench.datasets.tree import (
    TESTS,
    class_folders,
    composed,
    find_parts,
    list_images,
    tell_left_out,
)
from selbench.sets.reading import CorruptedSet
from selbench.sets.releases import official_folder
from selbench.sets.stored import Stored, content_of_all, reader_of

MAP = "classes.json"  # a file in the folder that maps its folders to classes
LARGEST = 2**24  # bytes of this file
NAMED = 3  # folders in a sentence


@dataclass(frozen=True)
class ShiftedSet:
    """Images of a data set's classes in a folder.

    Predictions are among the classes that have images, as in published results.

    Attributes:
        folder: the folder of the images.
        dataset: the data set, with the same classes and size.
        frame: scales and crops them as those of the data set; None to keep them.
    """

    folder: Path
    dataset: Dataset
    frame: Frame | None = None

    @property
    def name(self) -> str:
        """The name of the condition: the folder's, in the characters that columns allow."""
        folder = self.folder.resolve()
        name = folder.parent.name if folder.name in TESTS else folder.name
        return re.sub(r"[^A-Za-z0-9]+", "_", composed(name)).strip("_") or "images"

    def find(self) -> Stored:
        """Return the images, which are read from their files later.

        Raises:
            SelbenchError: for a folder of an unknown class, and for images of another size.
        """
        top = find_parts(self.folder)[1]
        folders, classes = class_folders(top), self.dataset.classes
        numbers, how = self._numbers([*folders])
        left: list[Path] = []
        pairs = [
            (path, number)
            for name, number in numbers.items()
            for path in list_images(folders[name], left)
        ]
        tell_left_out(self.folder, left)
        files, labels = [path for path, _ in pairs], torch.tensor([number for _, number in pairs])
        among = labels.unique()
        if len(among) < 2:
            raise SelbenchError(
                f"{self.folder} holds images of only one class, so any network is right; "
                "add the folders of others"
            )
        marks = [*how, *([f"{len(among)} of {len(classes)} classes"] * (len(among) < len(classes)))]
        height, width = self.dataset.test.images.shape[2:]
        return Stored(
            f"files ({', '.join(marks)})" if marks else "files",
            fingerprint([str(self.frame), labels.tolist(), content_of_all(files)]),
            labels,
            reader_of(files, top, (height, width), self.frame),
            among=among if len(among) < len(classes) else None,
        )

    def _numbers(self, names: list[str]) -> tuple[dict[str, int], list[str]]:
        """Return the class number of each folder that has one, and how it was found."""
        places = {composed(name): number for number, name in enumerate(self.dataset.classes)}
        path = self.folder / MAP
        if path.is_file():
            return self._mapped(names, places, _read_map(path), path), ["class map"]
        if {*names} <= places.keys():
            return {name: places[name] for name in names}, []
        if {*names} == {str(number) for number in range(len(places))}:
            return {name: int(name) for name in names}, ["folders numbered as classes"]
        odd = next(name for name in names if name not in places)
        hint = str(unknown("class", odd, self.dataset.classes)).partition("; ")[2]
        raise SelbenchError(
            f"the folder {odd} in {self.folder} is no class of {self.dataset.name} ({hint}); "
            f"rename it, or map folders to classes in {path}, null for none: "
            f"{json.dumps({odd: self.dataset.classes[0]})}"
        )

    def _mapped(
        self,
        names: list[str],
        places: Mapping[str, int],
        given: Mapping[str, str | None],
        path: Path,
    ) -> dict[str, int]:
        for name in given:
            if name not in names:
                raise unknown(f"folder in {path}", name, names)
        for each in given.values():
            if each is not None and each not in places:
                raise unknown(f"class in {path}", each, places)
        kept = {name: given[name] for name in names if given.get(name) is not None}
        silent = [name for name in names if name not in given]
        if silent:
            more = f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
            warnings.warn(
                f"{path} does not name {', '.join(silent[:NAMED])}{more}, which is left out",
                stacklevel=2,
            )
        return {name: places[str(class_name)] for name, class_name in kept.items()}


def _read_map(path: Path) -> dict[str, str | None]:
    try:
        content = json.loads(content_of(path, LARGEST, "class map").decode("utf-8-sig"))
    except (ValueError, RecursionError) as problem:
        raise SelbenchError(f"{path} is not valid JSON: {problem}") from problem
    if not isinstance(content, dict) or not all(
        each is None or isinstance(each, str) for each in content.values()
    ):
        raise SelbenchError(
            f'{path} is no JSON object from folder to class, such as {{"0": "cat", "1": null}}'
        )
    return {composed(name): each and composed(each) for name, each in content.items()}


def open_set(
    folder: Path, dataset: Dataset, frame: Frame | None = None, strict: bool = False
) -> CorruptedSet | ShiftedSet:
    """Return the set in a folder: corruptions at severities, or shifted images.

    Args:
        folder: the folder of the images.
        dataset: the data set with the same classes.
        frame: scales and crops shifted images; corrupted sets already have the right size.
        strict: whether only published files of a corrupted set are accepted.

    Raises:
        SelbenchError: if there is no folder.
    """
    corrupted = CorruptedSet(folder, dataset.classes, dataset.test, strict, dataset.names)
    places, known = corrupted.places, {composed(name) for name in dataset.classes}
    if strict or corrupted.about or places.keys() - known or not _holds_images(folder):
        return corrupted
    return ShiftedSet(folder, dataset, frame)


def _holds_images(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.iterdir() if path.name[0] != ".")


def named_set(source: str, dataset: Dataset, frame: Frame | None) -> CorruptedSet | ShiftedSet:
    """Return the set of --source, "official" or a folder; arguments as `open_set`."""
    official = source == "official"
    folder = official_folder(dataset.name) if official else Path(source).expanduser()
    return open_set(folder, dataset, frame, official)
