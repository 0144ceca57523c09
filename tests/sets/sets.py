"""What the tests of corrupted sets share: writing one, and looking at what was written."""

from pathlib import Path

import pytest
import torch

from corruptions import CORRUPTIONS
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT
from selbench.sets.source import open_source
from selbench.sets.treatment import Treatment
from selbench.sets.writing import write_set

CPU = torch.device("cpu")
FEW = Treatment(("gaussian_noise", "contrast"), (1, 4))
LAYOUTS = ("npy", "folder")
NINETEEN = {name for name, each in CORRUPTIONS.items() if not each.bar}


def write(images, output, treatment=FEW, layout="npy", progress=SILENT):
    return write_set(
        open_source(str(images), None, progress), Path(output), treatment, layout, CPU, progress
    )


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def told(pattern):
    return pytest.raises(SelbenchError, match=pattern)
