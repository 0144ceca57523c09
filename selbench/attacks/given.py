"""Adversarials made by others: read from files and matched with their test images."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Int64
from PIL import Image as Picture
from safetensors import SafetensorError
from torch import Tensor

from selbench._kit.content import LARGEST, content_of
from selbench._kit.errors import SelbenchError, in_short
from selbench._kit.types import Examples, Images

Rows = Int64[Tensor, " rows"]  # positions of test images, for the rows of a file
Every = Int64[Tensor, " every"]  # for all test images, in order
Positions = Int64[Tensor, " used"]

KINDS = ".safetensors, .npy, .npz, or a folder of PNG files named by example, such as 12.png"
MADE = "adversarial"  # first word of the names of adversarials' arrays; a level may follow
FACTS = ("example", "label")  # arrays with one value per row
BROKEN = (
    SafetensorError, OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, SyntaxError,
    zipfile.BadZipFile, Picture.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class GivenAdversarials:
    """Adversarials of test images, one set for each array.

    Attributes:
        sets: images in [0, 1], and the positions of their clean images in the data set.
        checksum: hash of the files' content.
    """

    sets: Sequence[tuple[Images, Examples]]
    checksum: str

    def of(self, number: int, clean: Images, examples: Examples) -> Images:
        """Return a set's adversarials for these examples; the clean image if it has none."""
        images, positions = self.sets[number]
        rows = {position: row for row, position in enumerate(positions.tolist())}
        pairs = [(n, rows[e]) for n, e in enumerate(examples.tolist()) if e in rows]
        found = clean.clone()
        if pairs:
            places, rows_found = map(list, zip(*pairs, strict=True))
            found[places] = images[rows_found].to(clean.device)
        return found


def read_adversarials(
    paths: Sequence[Path], labels: Every, positions: Positions, side: Sequence[int]
) -> GivenAdversarials:
    """Read adversarials from files.

    Args:
        paths: the files.
        labels: labels of all test images.
        positions: those of the test images in use. A file without `example` covers these, or all
            test images.
        side: height and width of images.

    Raises:
        SelbenchError: if a file cannot be read, has another shape, number or range, or belongs to
            other test images.
    """
    digest, sets = hashlib.sha256(), []
    for path in paths:
        try:
            arrays, content = _arrays(path)
        except FileNotFoundError as problem:
            raise SelbenchError(
                f"--adversarials: there is no {path}; name a file ({KINDS})"
            ) from problem
        except BROKEN as problem:
            raise SelbenchError(
                f"--adversarials {path}: cannot be read ({in_short(problem)}); write it again as "
                f"one of {KINDS}"
            ) from problem
        digest.update(content)
        sets += _sets(path, arrays, labels, positions, tuple(side))
    return GivenAdversarials(sets, digest.hexdigest()[:16])


def _arrays(path: Path) -> tuple[Mapping[str, Tensor], bytes]:
    """Return a file's arrays by name, and a hash of its content."""
    if path.is_dir():
        return _pictures(path)
    content = content_of(path, noun="adversarials")
    if path.suffix == ".safetensors":
        return safetensors.torch.load(content), hashlib.sha256(content).digest()
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"its name ends with {path.suffix or 'nothing'!r}")
    if path.suffix == ".npz":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(each.file_size for each in packed.infolist()) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST / 2**20:.0f} MB")
    found = np.load(io.BytesIO(content), allow_pickle=False)
    named = {MADE: found} if isinstance(found, np.ndarray) else {n: found[n] for n in found.files}
    arrays = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in named.items()}
    return arrays, hashlib.sha256(content).digest()


def _pictures(folder: Path) -> tuple[Mapping[str, Tensor], bytes]:
    digest, images, examples = hashlib.sha256(), [], []
    for path in sorted(folder.glob("*.png")):
        if not (path.stem.isascii() and path.stem.isdecimal() and len(path.stem) < len("1" * 10)):
            raise ValueError(f"{path.name} is not named by the position of its test image")
        content = content_of(path)
        digest.update(f"{path.name} {len(content)}".encode() + content)
        images.append(np.array(Picture.open(io.BytesIO(content), formats=["PNG"]).convert("RGB")))
        examples.append(int(path.stem))
    if not images:
        raise ValueError("it holds no PNG files")
    arrays = {MADE: torch.from_numpy(np.stack(images)), "example": torch.tensor(examples)}
    return arrays, digest.digest()


def _sets(
    path: Path,
    arrays: Mapping[str, Tensor],
    labels: Every,
    positions: Positions,
    side: tuple[int, ...],
) -> list[tuple[Images, Examples]]:
    """Check arrays, and return the adversarials with the positions of their test images."""
    made = {n: each for n, each in arrays.items() if n.split(" ")[0] == MADE}
    if not made:
        made = {n: each for n, each in arrays.items() if each.ndim == 4 and n != "clean"}
    if not made:
        raise _wrong(path, f"holds no array called {MADE!r}", "name it so")
    sets = []
    for images in made.values():
        examples = _examples(path, arrays, len(images), labels, positions)
        sets.append((_images(path, images, side), examples))
    return sets


def _images(path: Path, images: Tensor, side: tuple[int, ...]) -> Images:
    if tuple(images.shape[1:]) == (*side, 3):
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, *side):
        shape = " x ".join(map(str, images.shape))
        height, width = side
        wanted = f"N x 3 x {height} x {width} or N x {height} x {width} x 3"
        raise _wrong(path, f"has the shape {shape}, not {wanted}", "save images of that size")
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise _wrong(path, f"holds {kind}", "save uint8, or floats in [0, 1]")
    if len(images) and not (images.min() >= 0 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        reason = f"holds values from {low:.4g} to {high:.4g}, not in [0, 1]"
        raise _wrong(path, reason, "save images as they are before normalisation")
    return images.float()


def _examples(
    path: Path, arrays: Mapping[str, Tensor], count: int, labels: Every, positions: Positions
) -> Rows:
    """Return the positions of the rows' test images, after checking labels if there are any."""
    for name in FACTS:
        if name in arrays and (arrays[name].is_floating_point() or arrays[name].shape != (count,)):
            reason = f"holds {count} images and {name} of another number or kind"
            raise _wrong(path, reason, f"give one whole number of {name} for each image")
    if "example" in arrays:
        examples = arrays["example"].long()
    elif count in (len(positions), len(labels)):
        examples = positions if count == len(positions) else torch.arange(len(labels))
    else:
        number = f"{len(positions)} test images" if len(positions) == len(labels) else (
            f"{len(positions)} test images in use, nor all {len(labels)}"
        )  # fmt: skip
        reason = f"holds {count} images, not the {number}"
        raise _wrong(path, reason, "give all, in their order, or an array `example` of positions")
    _check(path, examples, arrays.get("label"), labels)
    return examples


def _check(path: Path, examples: Rows, file_labels: Tensor | None, labels: Every) -> None:
    if len(examples) and not (examples.min() >= 0 and examples.max() < len(labels)):
        reason = f"names test images up to {examples.max().item()} of {len(labels)}, from 0"
        raise _wrong(path, reason, "use the positions in the data set")
    if len(examples.unique()) < len(examples):
        raise _wrong(path, "has two adversarials of one test image", "put one into another file")
    if file_labels is None:
        return
    (unlike,) = (file_labels.long() != labels[examples]).nonzero(as_tuple=True)
    if len(unlike):
        row = int(unlike[0])
        place = int(examples[row])
        reason = (
            f"says class {int(file_labels[row])} of test image {place}, of class {labels[place]}"
        )
        raise _wrong(path, reason, "check that its images are of this data set, in this order")


def _wrong(path: Path, reason: str, cure: str) -> SelbenchError:
    return SelbenchError(f"--adversarials {path}: it {reason}; {cure}")
