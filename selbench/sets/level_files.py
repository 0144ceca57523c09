"""Write the levels of a corrupted set to files, which get their names once they are complete."""

import io
import shutil
from collections import defaultdict
from pathlib import Path

from PIL import Image

from selbench._kit.files import md5_of
from selbench._kit.types import Pixels
from selbench.sets.layout import SEVERITIES, npy_header
from selbench.sets.source import Source

QUALITY = 85  # of JPEG files, as in the published Tiny-ImageNet-C


class Arrays:
    """One `<corruption>.npy` for all severities; it has a hidden name until it is complete."""

    def __init__(
        self, folder: Path, source: Source, severities: tuple[int, ...], size: tuple[int, int]
    ) -> None:
        self._folder, self._severities, self._images = folder, severities, len(source)
        self._row = 3 * size[0] * size[1]
        self._header = npy_header((len(severities) * len(source), *size, 3))

    @property
    def _size(self) -> int:
        return len(self._header) + len(self._severities) * self._images * self._row

    def _part(self, name: str) -> Path:
        return self._folder / f".{name}.npy.part"

    def present(self, name: str) -> Path | None:
        """Return the path that readers look for, None if it does not exist."""
        path = self._folder / f"{name}.npy"
        return path if path.exists() else None

    def kept(self, name: str, finished: tuple[int, ...]) -> tuple[int, ...]:
        """Return the severities of `finished` that still exist."""
        complete = self.present(name) if finished == self._severities else None
        path = complete or self._part(name)
        return finished if path.is_file() and path.stat().st_size == self._size else ()

    def begin(self, name: str, kept: tuple[int, ...]) -> None:
        """Prepare files for a corruption; remove its files except of the severities `kept`."""
        if kept:
            return
        (self._folder / f"{name}.npy").unlink(missing_ok=True)
        with self._part(name).open("wb") as file:
            file.write(self._header)
            file.truncate(self._size)

    def drop(self, name: str) -> None:
        """Remove a corruption without finished severities."""
        self._part(name).unlink(missing_ok=True)

    def place(self, name: str, severity: int, rows: range, images: Pixels) -> None:
        """Write images at the positions `rows` of an unfinished level."""
        # No memory map: on a full disk it would end the process instead of raising.
        first = self._severities.index(severity) * self._images + rows.start
        with self._part(name).open("r+b") as file:
            file.seek(len(self._header) + first * self._row)
            file.write(images.permute(0, 2, 3, 1).contiguous().numpy().data)

    def md5(self, name: str, finished: tuple[int, ...]) -> str:
        """Return the md5 of the unfinished file if the severities `finished` make it complete."""
        return md5_of(self._part(name)) if len(finished) == len(self._severities) else ""

    def publish(self, name: str, finished: tuple[int, ...]) -> None:
        """Rename complete files of the severities `finished` to the name that readers look for."""
        if finished == self._severities and self._part(name).is_file():
            self._part(name).replace(self._folder / f"{name}.npy")


class Tree:
    """`<corruption>/<severity>/<class>/<name>.JPEG`; a severity is hidden until it is complete.

    The methods are those of `Arrays`.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        self._folder = folder
        labels = [] if source.labels is None else source.labels.tolist()
        classes = [source.classes[label] for label in labels] or [""] * len(source)
        self._paths = [Path(c, f"{n}.JPEG") for c, n in zip(classes, source.names, strict=True)]
        self._files = defaultdict[str, set[str]](set)
        for path, class_ in zip(self._paths, classes, strict=True):
            self._files[class_].add(path.name)

    def _part(self, name: str, severity: int) -> Path:
        return self._folder / name / f".{severity}.part"

    def present(self, name: str) -> Path | None:
        path = self._folder / name
        return path if path.exists() else None

    def kept(self, name: str, finished: tuple[int, ...]) -> tuple[int, ...]:
        places = {s: (self._folder / name / str(s), self._part(name, s)) for s in finished}
        return tuple(
            s for s, both in places.items() if any(self._is_complete(path) for path in both)
        )

    def _is_complete(self, folder: Path) -> bool:
        return all(
            (folder / class_).is_dir()
            and names.issubset(path.name for path in (folder / class_).iterdir())
            for class_, names in self._files.items()
        )

    def begin(self, name: str, kept: tuple[int, ...]) -> None:
        if not kept:
            self.drop(name)
        for severity in set(SEVERITIES).difference(kept):
            _remove(self._folder / name / str(severity))

    def drop(self, name: str) -> None:
        _remove(self._folder / name)

    def place(self, name: str, severity: int, rows: range, images: Pixels) -> None:
        for folder in {self._paths[position].parent for position in rows}:
            (self._part(name, severity) / folder).mkdir(parents=True, exist_ok=True)
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        for position, image in zip(rows, pixels, strict=True):
            # Not saved to a path: Pillow does not notice partial writes on a full disk.
            content = io.BytesIO()
            Image.fromarray(image).save(content, "JPEG", quality=QUALITY, optimize=True)
            (self._part(name, severity) / self._paths[position]).write_bytes(content.getvalue())

    def md5(self, name: str, finished: tuple[int, ...]) -> str:
        return ""  # there are many files

    def publish(self, name: str, finished: tuple[int, ...]) -> None:
        for severity in finished:
            if self._is_complete(self._part(name, severity)):
                _remove(self._folder / name / str(severity))
                self._part(name, severity).replace(self._folder / name / str(severity))


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


Files = Arrays | Tree
