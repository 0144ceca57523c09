"""Decoding, scaling and cutting photographs beside plain Pillow in as many processes as cores."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selbench._kit.progress import SILENT
from selbench.datasets.frame import Frame
from selbench.datasets.images import each_decoded

FILES, TARGET = 300, 0.9
FRAME = Frame(224, 256)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write photographs about as large, and as large as files, as ImageNet's."""
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    paths = [folder / f"{number:03}.jpg" for number in range(FILES)]
    for path in paths:
        rough = Image.fromarray(generator.integers(0, 256, (47, 63, 3), np.uint8))
        rough.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=92)
    return paths


def plainly(path: Path) -> int:
    """Do it with Pillow, and send back a number alone: sending pixels would take time."""
    with Image.open(path) as image:
        scaled = image.convert("RGB").resize((341, 256), Image.Resampling.BILINEAR)
    return int(np.asarray(scaled.crop((58, 16, 282, 240)))[0, 0, 0])


def test_photographs_are_decoded_as_fast_as_by_processes_of_plain_pillow(race, files):
    """Target: 0.9 of its speed."""
    kept = np.empty((FILES, 224, 224, 3), np.uint8)

    def ours():
        for place, image in enumerate(each_decoded(files, SILENT, "", FRAME)):
            kept[place] = image

    with ProcessPoolExecutor(os.cpu_count()) as pool:
        ratio = race(ours, lambda: list(pool.map(plainly, files, chunksize=10)))
    assert [int(image[0, 0, 0]) for image in kept] == [plainly(path) for path in files]
    assert ratio >= TARGET
