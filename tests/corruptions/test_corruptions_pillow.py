"""Corruptions of large images by Pillow: the same bytes as the arithmetic of other devices."""

import pytest
import torch

from corruptions import CORRUPTIONS, jpeg
from corruptions.types import as_bytes, as_images, by_pillow

BY_PILLOW = [name for name, each in CORRUPTIONS.items() if each.on_image]


@pytest.mark.parametrize("name", BY_PILLOW)
def test_pillow_gives_the_same_bytes(name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, 3, 61, 50), generator=generator, dtype=torch.uint8)
    entry = CORRUPTIONS[name]
    for constant in (each for severities in entry.severities.values() for each in severities):
        change = entry.on_image(constant)
        assert change
        computed = as_bytes(entry.function(as_images(images), constant))
        assert torch.equal(by_pillow(images, change), computed)


def test_another_codec_is_not_used(monkeypatch):
    monkeypatch.setattr(jpeg, "_codec_is_equal", lambda: False)
    assert jpeg.by_codec(50) is None
