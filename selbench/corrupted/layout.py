"""How corrupted sets lie on disk: the layouts of CIFAR-10-C and Tiny-ImageNet-C.

    npy      <corruption>.npy   uint8 (severities x images, height, width, 3), one block a severity
             labels.npy         the label of every row, the same block after block
    folder   <corruption>/<severity>/<class>/*.JPEG

Hendrycks & Dietterich, 2019, arXiv:1903.12261. A set that selbench wrote says in a file of its own
how it was made; the published ones have none.
"""

import io
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from selbench.errors import DamagedError, SelbenchError
from selbench.files import read_json, sealed, unsealed, write_text
from selbench.study import Frozen
from selbench.types import Labels

ABOUT = "selbench-set.json"
LABELS = "labels.npy"
ELSEWHERE = "OUTPUT"  # how the folder of a set is chosen
SEVERITIES = range(1, 6)

# md5 of the published CIFAR-10-C's files (Zenodo 2535967)
PUBLISHED = {
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
    "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
    "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
    "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
    "saturate": "1cfae0964219c5102abbb883e538cc56",
    "labels": "c439b113295ed5254878798ffe28fd54",
}


Severity = Annotated[int, Field(ge=1, le=5)]


class Part(Frozen):
    """One corruption of a set.

    Attributes:
        version, variant: of the code that made it.
        finished: its severities that are.
        md5: of its file once that is whole; "" where an earlier version wrote it, or several files.
    """

    version: int
    variant: str
    finished: tuple[int, ...] = ()
    md5: str = ""


class About(Frozen):
    """What a set says of itself.

    Attributes:
        layout: "npy" or "folder".
        data: checksum of the images that were corrupted.
        images: how many they are.
        classes: their classes in the order of their numbers; () where there are none.
        seed: of the random numbers.
        scale: image size whose constants were used.
        severities: of every corruption, in rising order.
        parts: corruption -> what was made of it.
        versions: of the libraries.
        labels: md5 of `labels.npy`; "" where there is none, or an earlier version wrote the set.
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
        """Write it into the set's folder, whole or not at all."""
        text = json.dumps(sealed(self.model_dump(mode="json")), indent=1)
        write_text(folder / ABOUT, text + "\n", ELSEWHERE)


def read_about(folder: Path) -> About | None:
    """Return what the set in `folder` says of itself; None where it says nothing.

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
