"""Where the pictures of frost come from, and that a result tells."""

import numpy as np
import pytest
import torch
from PIL import Image

from corruptions import CORRUPTIONS, corrupt
from corruptions.frost import PHOTOGRAPHS, frost_pictures

BLACK = torch.zeros(40, 3, 32, 32, dtype=torch.uint8)
EXAMPLES = torch.arange(40)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Name a folder with five plain pictures of the grey levels 40, 80, ..., 200."""
    for number, name in enumerate(PHOTOGRAPHS, start=1):
        pixels = np.full((320 + number, 500, 3), 40 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    monkeypatch.setenv("SELBENCH_FROST", str(tmp_path))
    return tmp_path


def test_without_photographs():
    assert CORRUPTIONS["frost"].variant == "procedural"
    out = corrupt(BLACK, "frost", 5, examples=EXAMPLES)
    assert out.float().mean() == pytest.approx(0.45 * 165, rel=0.1)
    assert out.float().std() > 5


def test_with_photographs(folder):
    assert CORRUPTIONS["frost"].variant == ""
    out = corrupt(BLACK, "frost", 5, examples=EXAMPLES)
    levels = out.unique().tolist()
    assert levels == [18, 36, 54, 72, 90]  # 0.45 times each picture's level; all five occur


def test_missing_photograph(folder):
    (folder / "frost4.jpg").unlink()
    message = "lacks frost4.jpg; unset it to use procedural frost"
    with pytest.raises(FileNotFoundError, match=message):
        _ = CORRUPTIONS["frost"].variant
    with pytest.raises(FileNotFoundError, match=message):
        corrupt(BLACK, "frost", 1, examples=EXAMPLES)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (400, 300), (96, 700)])
def test_pictures_are_larger_than_images(height, width):
    _, sizes = frost_pictures(None, 0.2, height, width, torch.device("cpu"))
    assert (sizes > torch.tensor([height, width])).all()


def test_pieces_lie_inside_the_pictures(folder):
    # outside its part of the canvas a picture is black; 0.45 * 40 = 18 is its darkest level
    wide = BLACK[:8].repeat(1, 1, 1, 3)
    assert corrupt(wide, "frost", 5, examples=EXAMPLES[:8], scale=32).min() >= 18
