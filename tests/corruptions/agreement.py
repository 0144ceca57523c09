"""A network's accuracy under selbench's corruptions and the oracle's, each with its own draws.

    python tests/corruptions/agreement.py FOLDER_WITH_TEST_DATA

prints all 19 x 5 of them on 2,000 real images as a Markdown table.
"""

import os
import sys
import tarfile
import zlib
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from numpy.random import RandomState
from oracle import Array, corrupted
from PIL import Image
from torch import nn

from corruptions import CORRUPTIONS, corrupt
from selbench.models import build_model, load_weights
from selbench.study import ModelSpec


@dataclass(frozen=True)
class Agreement:
    """How often a network is right about each image, under selbench's corruption and the oracle's.

    Two draws of one distribution differ by chance, on some images one way and on some the other;
    the spread of the images' differences tells by how much their mean may.
    """

    ours: Array  # (images,), each the share of draws in which the network is right
    theirs: Array

    @property
    def difference(self) -> float:
        """Ours minus theirs, in percentage points."""
        return 100 * float((self.ours - self.theirs).mean())

    @property
    def error(self) -> float:
        """The paired standard error of the difference, in percentage points."""
        spread = (self.ours - self.theirs).std(ddof=1)
        return 100 * float(spread / np.sqrt(len(self.ours)))

    def __str__(self) -> str:
        both = f"{100 * self.ours.mean():.1f}, {100 * self.theirs.mean():.1f}"
        return f"{both}: {self.difference:+.2f} ± {self.error:.2f}"


def agreement(network, images: Array, labels: Array, name: str, severity: int, draws: int):
    """Compare over `draws` independent draws of both sides."""
    right = [
        [predictions(network, version) == labels for version in versions(images, name, severity, i)]
        for i in range(draws)
    ]
    return Agreement(*np.mean(right, axis=0))


def versions(images: Array, name: str, severity: int, draw: int) -> tuple[Array, Array]:
    """Corrupt uint8 images (images, side, side, 3), ours and theirs."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    ours = corrupt(batch, name, severity, examples=torch.arange(len(images)), seed=draw)
    random = RandomState(zlib.crc32(f"{name}/{severity}/{draw}".encode()))
    theirs = [corrupted(image, name, severity, random) for image in images]
    return ours.permute(0, 2, 3, 1).numpy(), np.stack(theirs)


@torch.inference_mode()
def predictions(network: nn.Module, images: Array) -> Array:
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last, as it lies in memory
    return torch.cat([network(part.float() / 255).argmax(1) for part in batch.split(250)]).numpy()


def foreign_network(data: Path) -> nn.Module:
    """Load a ResNet20 that others trained, without corruptions, on CIFAR-10."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    spec = ModelSpec(name="resnet20", options={"shortcut": "A"}, mean=mean, std=std)
    network = build_model(spec, 10, (mean, std))
    load_weights(network, data / "weights" / "resnet20-cifar10.th")
    return network.eval()


def real_images(data: Path, per_class: int) -> tuple[Array, Array]:
    """Read the first test images, one class after the other in turns, and their labels.

    Returns uint8 (images, 32, 32, 3), so that every ten in a row show ten classes.
    """
    images: dict[str, list[Array]] = {}
    with tarfile.open(data / "cifar10-jpeg.tar.xz") as archive:
        for member in takewhile(lambda member: member.name.startswith("test"), archive):
            kept = images.setdefault(Path(member.name).parent.name, [])
            if member.isfile() and len(kept) < per_class:
                kept.append(np.asarray(Image.open(archive.extractfile(member))))
    classes = [np.stack(images[name]) for name in sorted(images) if images[name]]
    labels = np.tile(np.arange(len(classes)), per_class)
    return np.stack(classes, axis=1).reshape(-1, 32, 32, 3), labels


def main(data: Path, per_class: int = 200) -> None:
    """Print the table, with four draws of each random corruption."""
    os.environ["SELBENCH_FROST"] = str(data / "frost")
    network, (images, labels) = foreign_network(data), real_images(data, per_class)
    sys.stdout.write(f"| corruption | {' | '.join(f'severity {s}' for s in range(1, 6))} |\n")
    sys.stdout.write(f"|---|{'---|' * 5}\n")
    for name, entry in CORRUPTIONS.items():
        draws = 4 if entry.random else 1
        row = (agreement(network, images, labels, name, s, draws) for s in range(1, 6))
        sys.stdout.write(f"| {name} | {' | '.join(map(str, row))} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
