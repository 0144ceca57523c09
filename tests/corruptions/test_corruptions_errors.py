"""What `corrupt` refuses, and in which words."""

import inspect
import re

import numpy as np
import pytest
import torch
from PIL import Image

from corruptions import CORRUPTIONS, SMALLEST_SIDE, corrupt
from corruptions.draws import KeyedDraws

IMAGES = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
EXAMPLES = torch.arange(2)
HWC = np.zeros((32, 32, 3), np.uint8)


def refused(message, images=IMAGES, name="gaussian_noise", severity=3, **settings):
    bare = inspect.unwrap(corrupt)  # users have no type checks at run time
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bare(images, name, severity, **{"examples": EXAMPLES, **settings})


@pytest.mark.parametrize(
    "severity",
    [
        0,
        6,
        -1,
        True,
        2.0,
        2.5,
        "3",
        None,
        np.True_,
        np.float64(3),
        torch.tensor(True),
        [3],
        np.int8(6),
    ],
)
def test_severity(severity):
    refused(f"gaussian_noise has severities 1-5, got {severity!r}", severity=severity)


@pytest.mark.parametrize(
    "whole", [np.int64, np.uint8, np.array, torch.tensor, lambda value: torch.tensor([value])]
)
def test_whole_numbers_of_other_libraries_are_ints(whole):
    expected = corrupt(IMAGES, "gaussian_noise", 3, examples=EXAMPLES, seed=7, scale=64)
    given = {"severity": whole(3), "seed": whole(7), "scale": whole(64)}
    assert torch.equal(
        inspect.unwrap(corrupt)(IMAGES, "gaussian_noise", examples=EXAMPLES, **given), expected
    )


def test_what_is_given_is_shown_in_one_short_line():
    refused(
        f"gaussian_noise has severities 1-5, got {str(list(range(99)))[:90]} ...",
        severity=list(range(99)),
    )
    refused("gaussian_noise has severities 1-5, got a very long int", severity=10**5000)


def test_name():
    refused(
        "unknown corruption 'gausian_noise'; the nearest known one is 'gaussian_noise'",
        name="gausian_noise",
    )
    refused("unknown corruption 'JPEG'; the nearest known one is 'jpeg_compression'", name="JPEG")


@pytest.mark.parametrize("name", [None, 3, ["fog"], {"fog": 1}, b"fog"])
def test_name_of_another_type(name):
    refused(f'name must be a str such as "fog", got {name!r}', name=name)


@pytest.mark.parametrize("seed", [-1, 0.0, False, True, "a", None, [1]])
def test_seed(seed):
    refused(f"seed must be an int of at least 0, got {seed!r}", seed=seed)


@pytest.mark.parametrize("seed", [2**64, 10**5000], ids=["long", "unprintable"])
def test_seed_of_too_many_digits(seed):
    refused("seed must be an int below 2**64, got a larger one", seed=seed)


@pytest.mark.parametrize(
    ("value", "found", "cure"),
    [
        (HWC, "numpy.ndarray", "use torch.from_numpy(image[..., :3]).permute(2, 0, 1)[None]"),
        (HWC[None], "numpy.ndarray", "use torch.from_numpy(images[..., :3]).permute(0, 3, 1, 2)"),
        (IMAGES.numpy(), "numpy.ndarray", "use torch.from_numpy(images)"),
        (
            Image.fromarray(HWC),
            "PIL.Image.Image",
            'use torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1)[None]',
        ),
        ([0, 1], "list", "make one of shape (batch, 3, height, width), as with torch.stack"),
        (None, "NoneType", "make one of shape (batch, 3, height, width), as with torch.stack"),
    ],
)
def test_no_tensors(value, found, cure):
    refused(f"images must be a torch.Tensor, got {found}; {cure}", images=value)
    refused(
        f"examples must be a torch.Tensor, got {found}; make them with torch.arange",
        examples=value,
    )
    if cure.startswith("use"):
        given = {"torch": torch, "numpy": np, "image": value, "images": value}
        assert eval(cure.removeprefix("use "), given).shape[1:] == (3, 32, 32)


def test_images_that_need_a_gradient():
    images = torch.zeros(2, 3, 32, 32, requires_grad=True)
    cure = "images need a gradient, and a corruption has none; corrupt images.detach()"
    refused(cure, images=images)
    with torch.no_grad():
        assert not corrupt(images, "fog", 3, examples=EXAMPLES).requires_grad
    assert not corrupt(images.detach(), "fog", 3, examples=EXAMPLES).requires_grad


def test_sparse_tensors():
    refused(
        "images must be dense, got torch.sparse_coo; convert them with images.to_dense()",
        images=IMAGES.to_sparse(),
    )
    refused(
        "examples must be dense, got torch.sparse_coo; convert them with examples.to_dense()",
        examples=EXAMPLES.to_sparse(),
    )


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_floats_of_8_bits(dtype):
    refused(
        f"images must be uint8 from 0 to 255 or floating from 0 to 1, got {dtype}; "
        "convert them with images.to(torch.float32)",
        images=IMAGES.to(dtype),
    )


@pytest.mark.parametrize("scale", [None, 32, 224])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 64), (64, 8), (0, 0)])
def test_small_images(height, width, scale):
    refused(
        f"images must have at least 9 pixels a side, got {height}x{width}; enlarge them",
        images=torch.zeros(2, 3, height, width, dtype=torch.uint8),
        scale=scale,
    )


@pytest.mark.parametrize(
    "severities",
    [(1, 5), pytest.param((1, 2, 3, 4, 5), marks=pytest.mark.soak)],
    ids=["ends", "all"],
)
@pytest.mark.parametrize("scale", [32, 64, 224])
@pytest.mark.parametrize("longer", [0, 30])
@pytest.mark.sample("severities")
def test_smallest_images(scale, longer, severities):
    shape = (2, 3, SMALLEST_SIDE, SMALLEST_SIDE + longer)
    images = torch.randint(256, shape, dtype=torch.uint8)
    for name in CORRUPTIONS:
        for severity in severities:
            for each in (images, images.mT.contiguous()):
                out = corrupt(each, name, severity, examples=EXAMPLES, scale=scale)
                assert out.shape == each.shape


def test_smaller_images_have_no_room_for_glass():
    images = torch.zeros(2, 3, SMALLEST_SIDE - 1, SMALLEST_SIDE - 1, dtype=torch.uint8)
    with pytest.raises(RuntimeError):
        CORRUPTIONS["glass_blur"].apply(images, 5, scale=224, draws=KeyedDraws("", EXAMPLES))


def test_size_without_constants():
    refused(
        "gaussian_noise has no constants for 96x96 pixels; "
        "choose those of another size with scale=32, 64 or 224",
        images=torch.zeros(2, 3, 96, 96, dtype=torch.uint8),
    )
    refused(
        "gaussian_noise has no constants for 32x64 pixels; "
        "choose those of another size with scale=32, 64 or 224",
        images=torch.zeros(2, 3, 32, 64, dtype=torch.uint8),
    )


@pytest.mark.parametrize("scale", [96, 0, 32.0, True, "32", [32]])
def test_scale(scale):
    refused(f"scale must be 32, 64 or 224, got {scale!r}", scale=scale)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.bool])
def test_dtype(dtype):
    refused(
        f"images must be uint8 from 0 to 255 or floating from 0 to 1, got {dtype}; "
        "convert values from 0 to 255 with images.to(torch.uint8)",
        images=IMAGES.to(dtype),
    )


def test_dtype_of_examples():
    refused(
        "examples must be int64 positions in the data set, got torch.int32; "
        "convert them with examples.to(torch.int64)",
        examples=EXAMPLES.int(),
    )


@pytest.mark.parametrize(
    ("value", "found", "hint"),
    [
        (255.0, "255", "divide them by 255"),
        (2.0, "2", "divide them by 255"),
        (1.5, "1.5", "clip what resizing left outside with images.clamp(0, 1)"),
        (-0.125, "-0.125", "clip what resizing left outside with images.clamp(0, 1)"),
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


def test_values_just_outside_are_told_with_their_digits():
    for value, found in [(1.00011, "1.00011"), (-0.00011, "-0.00011")]:
        refused(
            f"floating images must have values from 0 to 1, got {found}; "
            "clip what resizing left outside with images.clamp(0, 1)",
            images=torch.full((2, 3, 32, 32), value, dtype=torch.float64),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("value", "inside"), [(1.0000002, 1.0), (1.00009, 1.0), (-0.00009, 0.0)])
def test_what_resizing_leaves_outside_is_taken_back_in(value, inside, dtype):
    images = torch.linspace(0, 1, 32, dtype=dtype).expand(2, 3, 32, 32).contiguous()
    images[1, 2, 3, 4] = inside
    expected = corrupt(images, "saturate", 3, examples=EXAMPLES)
    images[1, 2, 3, 4] = value
    assert torch.equal(corrupt(images, "saturate", 3, examples=EXAMPLES), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((2, 1, 32, 32), "; repeat the grey channel with images.expand(-1, 3, -1, -1)"),
        ((2, 32, 32, 3), "; put the channels first with images.permute(0, 3, 1, 2)"),
        ((3, 32, 32), "; make one image a batch with images.unsqueeze(0)"),
        ((32, 32, 3), "; make one image a batch with images.permute(2, 0, 1).unsqueeze(0)"),
        ((2, 4, 32, 32), "; leave the alpha channel out with images[:, :3]"),
        ((2, 2, 32, 32), ""),
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
