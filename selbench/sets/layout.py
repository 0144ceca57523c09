"""The layouts of corrupted sets on disk: those of CIFAR-10-C and Tiny-ImageNet-C.

    npy      <corruption>.npy   uint8 (severities x images, height, width, 3), one block a severity
             labels.npy         the label of every row, the same block after block
    folder   <corruption>/<severity>/<class>/*.JPEG

Hendrycks & Dietterich, 2019, arXiv:1903.12261. selbench adds a file that describes how it made the
set; published sets have none.
"""

import io
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from selbench._kit.errors import DamagedError, SelbenchError
from selbench._kit.files import read_json, sealed, unsealed, write_text
from selbench._kit.frozen import Frozen
from selbench._kit.types import Labels

ABOUT = "selbench-set.json"
LABELS = "labels.npy"
ELSEWHERE = "OUTPUT"  # the option for the folder of a set
SEVERITIES = range(1, 6)

Severity = Annotated[int, Field(ge=1, le=5)]


class Part(Frozen):
    """One corruption of a set.

    Attributes:
        version, variant: those of the code that made it.
        finished: the finished severities.
        md5: of its complete file; "" if it is unfinished, has several files, or an earlier version
            of selbench wrote it.
    """

    version: int
    variant: str
    finished: tuple[int, ...] = ()
    md5: str = ""


class About(Frozen):
    """The description that selbench writes into a set.

    Attributes:
        layout: "npy" or "folder".
        data: checksum of the images that were corrupted.
        images: their number.
        classes: their classes in the order of their numbers; () for none.
        seed: the seed of the random numbers.
        scale: the image size whose constants were used.
        severities: the severities of every corruption, rising.
        parts: the state of each corruption.
        versions: the versions of libraries.
        labels: md5 of `labels.npy`; "" if there is none, or an earlier version wrote the set.
    """

    format: Literal[1] = 1
    layout: Literal["npy", "folder"]
    data: str
    images: int = Field(ge=1)
    classes: tuple[str, ...]
    seed: int
    scale: int
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)]
    parts: dict[str, Part] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    labels: str = ""

    def write(self, folder: Path) -> None:
        """Write it into the set's folder, atomically."""
        text = json.dumps(sealed(self.model_dump(mode="json")), indent=1)
        write_text(folder / ABOUT, text + "\n", ELSEWHERE)


def read_about(folder: Path) -> About | None:
    """Return the description of the set in `folder`; None if there is none.

    Raises `SelbenchError` for a damaged file.
    """
    path = folder / ABOUT
    if not path.is_file():
        return None
    try:
        return About.model_validate_json(json.dumps(unsealed(read_json(path))))
    except (ValueError, DamagedError) as problem:
        raise SelbenchError(
            f"{path} is damaged or of another version of selbench; delete the folder and make the "
            "set again"
        ) from problem


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return what `numpy.save` writes before the values of a uint8 array of that shape."""
    header = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    return header.getvalue()


def npy_labels(labels: Labels, classes: int, severities: int) -> bytes:
    """Return `labels.npy`: the labels once per severity, uint8 up to 256 classes."""
    file = io.BytesIO()
    narrow = labels.numpy().astype(np.min_scalar_type(classes - 1))
    np.save(file, np.tile(narrow, severities))
    return file.getvalue()
