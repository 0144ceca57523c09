"""What `corrupt` refuses, and in which words."""

import re

import pytest
import torch

from corruptions import corrupt

IMAGES = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
EXAMPLES = torch.arange(2)


def refused(message, images=IMAGES, name="gaussian_noise", severity=3, **settings):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        corrupt(images, name, severity, **{"examples": EXAMPLES, **settings})


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_severity(severity):
    refused(f"gaussian_noise has severities 1-5, got {severity}", severity=severity)


def test_name():
    refused(
        "unknown corruption 'gausian_noise'; the nearest known one is 'gaussian_noise'",
        name="gausian_noise",
    )
    refused("unknown corruption 'JPEG'; the nearest known one is 'jpeg_compression'", name="JPEG")


def test_size_without_constants():
    refused(
        "gaussian_noise has no constants for 96x96 pixels; "
        "choose the constants of one with scale=32, 64 or 224",
        images=torch.zeros(2, 3, 96, 96, dtype=torch.uint8),
    )
    refused(
        "gaussian_noise has no constants for 32x64 pixels; "
        "choose the constants of one with scale=32, 64 or 224",
        images=torch.zeros(2, 3, 32, 64, dtype=torch.uint8),
    )


def test_scale():
    refused("scale must be 32, 64 or 224, got 96", scale=96)


def test_dtype():
    refused("images must be uint8 with values 0 to 255, got torch.float32", images=IMAGES.float())
    refused(
        "examples must be int64 positions in the data set, got torch.int32",
        examples=EXAMPLES.int(),
    )


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 32, 32, 3), (3, 32, 32)])
def test_shape(shape):
    refused(
        f"images must have shape (batch, 3, height, width), got {shape}",
        images=torch.zeros(shape, dtype=torch.uint8),
    )


def test_number_of_examples():
    refused(
        "examples must be one position per image, of shape (2,), got (3,)",
        examples=torch.arange(3),
    )
    refused(
        "examples must be one position per image, of shape (2,), got (2, 1)",
        examples=EXAMPLES.unsqueeze(1),
    )
