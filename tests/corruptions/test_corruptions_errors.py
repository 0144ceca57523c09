"""What `corrupt` refuses, and in which words."""

import inspect
import re

import pytest
import torch

from corruptions import corrupt

IMAGES = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
EXAMPLES = torch.arange(2)


def refused(message, images=IMAGES, name="gaussian_noise", severity=3, **settings):
    bare = inspect.unwrap(corrupt)  # users have no type checks at run time
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bare(images, name, severity, **{"examples": EXAMPLES, **settings})


@pytest.mark.parametrize("severity", [0, 6, -1, True, 2.0, "3", None, torch.tensor(2)])
def test_severity(severity):
    refused(f"gaussian_noise has severities 1-5, got {severity!r}", severity=severity)


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


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.bool])
def test_dtype(dtype):
    refused(
        f"images must be uint8 from 0 to 255 or floating from 0 to 1, got {dtype}; "
        "convert values from 0 to 255 with images.to(torch.uint8)",
        images=IMAGES.to(dtype),
    )


def test_dtype_of_examples():
    refused(
        "examples must be int64 positions in the data set, got torch.int32",
        examples=EXAMPLES.int(),
    )


@pytest.mark.parametrize(
    ("value", "found", "hint"),
    [
        (255.0, "255", "divide them by 255"),
        (1.5, "1.5", "divide them by 255"),
        (-2.25, "-2.25", "corrupt images before they are normalised"),
        (float("nan"), "nan", "look for a division by zero where they were made"),
        (float("inf"), "inf", "look for a division by zero where they were made"),
        (float("-inf"), "-inf", "look for a division by zero where they were made"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_range_of_floating_images(value, found, hint, dtype):
    images = IMAGES.to(dtype)
    images[1, 2, 3, 4] = value
    refused(f"floating images must have values from 0 to 1, got {found}; {hint}", images=images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((2, 1, 32, 32), "; repeat the grey channel with images.expand(-1, 3, -1, -1)"),
        ((2, 32, 32, 3), "; put the channels first with images.permute(0, 3, 1, 2)"),
        ((3, 32, 32), "; make one image a batch with images.unsqueeze(0)"),
        ((2, 4, 32, 32), ""),
        ((32, 32), ""),
    ],
)
def test_shape(shape, hint, dtype):
    refused(
        f"images must have shape (batch, 3, height, width), got {shape}{hint}",
        images=torch.zeros(shape, dtype=dtype),
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
