"""What holds for every corruption, and that none is missing."""

import functools
import sys
from itertools import pairwise

import pytest
import torch

from corruptions import CORRUPTIONS, SMALLEST_SIDE, Corruption, bar_corruptions, corrupt

BENCHMARK = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
EXTRA = {
    "noise": "speckle_noise",
    "blur": "gaussian_blur",
    "weather": "spatter",
    "digital": "saturate",
}
BAR = {  # by family: of CIFAR-10-C-bar, of both, of ImageNet-C-bar
    "noise": (
        (),
        ("brownish_noise", "sparkles", "inverse_sparkles"),
        ("single_frequency_greyscale", "cocentric_sine_waves", "plasma_noise", "perlin_noise"),
    ),
    "blur": (("circular_motion_blur", "transverse_chromatic_abberation"), (), ()),
    "distortion": (("pinch_and_twirl", "ripple"), (), ("caustic_refraction",)),
    "obscuring": (("lines",), ("checkerboard_cutout", "blue_noise_sample"), ()),
}
SEVERITIES = range(1, 6)
SIZES = (32, 64, 224)

each_corruption = pytest.mark.parametrize("name", CORRUPTIONS)
each_random_one = pytest.mark.parametrize("name", [n for n in CORRUPTIONS if CORRUPTIONS[n].random])


def photographs(batch: int, size: int = 32) -> torch.Tensor:
    """Make smooth colour gradients with a little texture, different for each image."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(batch, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    texture = torch.rand(batch, 3, size, size, generator=generator)
    return (200 * smooth + 55 * texture).to(torch.uint8)


def test_the_published_corruptions_are_there_in_order_and_others_are_extra():
    names = [name for family in BENCHMARK.values() for name in family] + list(EXTRA.values())
    assert [name for name in CORRUPTIONS if name in names] == names
    assert all(each.extra for name, each in CORRUPTIONS.items() if name not in names)


@each_corruption
def test_entry(name):
    entry = CORRUPTIONS[name]
    assert isinstance(entry, Corruption)
    assert entry.name == name
    assert entry.extra == (name not in BENCHMARK.get(entry.family, ()))
    assert tuple(entry.severities) == SIZES
    assert all(len(constants) == len(SEVERITIES) for constants in entry.severities.values())
    assert entry.version >= 1
    assert entry.variant == "" or name == "frost"
    assert entry.function.__doc__


def test_c_bar_has_ten_for_each_published_size():
    for size, parts in ((32, (0, 1)), (64, (0, 1)), (224, (1, 2))):
        names = {name for family in BAR.values() for part in parts for name in family[part]}
        assert len(names) == 10
        assert set(bar_corruptions(size)) == names
    for family, parts in BAR.items():
        for published, part in zip(((32,), (32, 224), (224,)), parts, strict=True):
            for name in part:
                entry = CORRUPTIONS[name]
                assert (entry.family, entry.bar, entry.extra) == (family, published, True)
                own = {size for size in SIZES if not entry.published(size)}
                assert own == set(SIZES) - set(published)
                nearest = {
                    size: entry.severities[published[-1 if size == 224 else 0]] for size in own
                }
                assert {size: entry.severities[size] for size in own} == nearest
    assert not any(CORRUPTIONS[name].bar for family in BENCHMARK.values() for name in family)


def test_registry_cannot_be_changed():
    with pytest.raises(TypeError):
        CORRUPTIONS["blank"] = None


@pytest.mark.parametrize("size", SIZES)
@each_corruption
@pytest.mark.sample("name")
def test_shape_and_type_stay_and_input_is_not_changed(name, size):
    images = photographs(2, size)
    before = images.clone()
    for severity in SEVERITIES if size == 32 else (3,):
        out = corrupt(images, name, severity, examples=torch.arange(2))
        assert out.dtype == torch.uint8
        assert out.shape == images.shape
        assert out.device == images.device
        assert not torch.equal(out, images)
    assert torch.equal(images, before)


@each_corruption
def test_same_key_same_bytes(name):
    images, examples = photographs(3), torch.tensor([4, 0, 9])
    first = corrupt(images, name, 4, examples=examples, seed=7)
    assert torch.equal(corrupt(images, name, 4, examples=examples, seed=7), first)


@pytest.mark.parametrize("severity", [1, 4])
@each_corruption
@pytest.mark.sample("name")
def test_batch_size_order_and_subset_do_not_matter(name, severity):
    count = 50  # more than is computed in one piece, but for C-bar
    images, examples = photographs(count), torch.arange(1000, 1000 + count)
    whole = corrupt(images, name, severity, examples=examples)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(2))
    shuffled = corrupt(images[order], name, severity, examples=examples[order])
    assert torch.equal(shuffled, whole[order])
    for subset in (slice(0, 1), slice(7, 10), slice(41, 50)):
        part = corrupt(images[subset], name, severity, examples=examples[subset])
        assert torch.equal(part, whole[subset])


@each_corruption
def test_memory_format_does_not_matter(name):
    images, examples = photographs(3), torch.arange(3)
    expected = corrupt(images, name, 3, examples=examples)
    rearranged = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(corrupt(rearranged, name, 3, examples=examples), expected)
    strided = images.repeat_interleave(2, dim=3)[..., ::2]
    assert torch.equal(corrupt(strided, name, 3, examples=examples), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@each_corruption
@pytest.mark.sample("name")
def test_floating_images_are_rounded_to_bytes_and_back(name, dtype):
    levels, examples = photographs(3), torch.arange(3)
    images = levels.to(dtype) / 255
    before = images.clone()
    out = corrupt(images, name, 3, examples=examples)
    assert out.dtype == dtype
    assert torch.equal(images, before)
    expected = corrupt(levels, name, 3, examples=examples).double() / 255
    assert torch.equal(out, expected.float().to(dtype) if dtype != torch.float64 else expected)
    nearby = (levels.double() + 0.4).clamp_(max=255) / 255  # the same levels when rounded
    assert torch.equal(corrupt(nearby.to(dtype), name, 3, examples=examples), out)


@each_random_one
def test_seed_severity_and_example_change_the_draws(name):
    images = photographs(1).expand(5, -1, -1, -1)  # two may be equal: channels have six orders
    out = corrupt(images, name, 3, examples=torch.arange(5))
    assert not torch.equal(out, out[:1].expand_as(out))
    other_seed = corrupt(images, name, 3, examples=torch.arange(5), seed=1)
    assert not torch.equal(out, other_seed)


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if not CORRUPTIONS[n].random])
def test_seed_and_example_do_not_matter_without_randomness(name):
    images = photographs(2)
    first = corrupt(images, name, 3, examples=torch.tensor([0, 1]), seed=0)
    assert torch.equal(corrupt(images, name, 3, examples=torch.tensor([5, 6]), seed=9), first)


@each_corruption
def test_severity_changes_the_result(name):
    images, examples = photographs(2), torch.arange(2)
    results = [corrupt(images, name, severity, examples=examples) for severity in SEVERITIES]
    for first, second in pairwise(results):
        assert not torch.equal(first, second)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (40, 56), (SMALLEST_SIDE, 12)])
@each_corruption
@pytest.mark.sample("name")
def test_any_size_with_borrowed_constants(name, height, width):
    images = photographs(2, 96)[..., :height, :width]
    for scale in SIZES:
        out = corrupt(images, name, 3, examples=torch.arange(2), scale=scale)
        assert out.shape == images.shape


@each_corruption
def test_extremes_and_empty_batches(name):
    for level in (0, 255):
        flat = torch.full((2, 3, 32, 32), level, dtype=torch.uint8)
        assert corrupt(flat, name, 2, examples=torch.arange(2)).shape == flat.shape
    empty = torch.empty(0, 3, 32, 32, dtype=torch.uint8)
    assert corrupt(empty, name, 2, examples=torch.arange(0)).shape == empty.shape


@pytest.fixture
def shorten_products():
    """Return a function that lets products of matrices be computed in bfloat16."""
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision

    def shorten():
        setting.fp32_precision = "bf16"

    yield shorten
    setting.fp32_precision = before


@pytest.mark.parametrize("name", ["snow", "elastic_transform", "spatter", "pixelate"])
def test_shortened_products_of_the_caller_do_not_reach_ours(name, shorten_products, monkeypatch):
    images, examples = photographs(8), torch.arange(8)
    expected = corrupt(images, name, 5, examples=examples)
    shorten_products()
    multiply, kinds = torch.matmul, set()

    def watched(left, right):
        kinds.add(left.dtype)
        return multiply(left, right)

    monkeypatch.setattr(torch, "matmul", watched)
    out = corrupt(images, name, 5, examples=examples)
    assert kinds == {torch.float64}  # which has no shorter form
    assert (out == expected).double().mean() > 0.999


@each_corruption
def test_what_the_caller_trains_in_does_not_reach_ours(name):
    images, examples = photographs(4), torch.arange(4)
    with torch.autocast("cpu", torch.bfloat16):
        out = corrupt(images, name, 3, examples=examples)
    assert torch.equal(out, corrupt(images, name, 3, examples=examples))


def _forget():
    """Have tables be made again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("corruptions"):
            for value in vars(module).values():
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


@pytest.fixture
def fresh_tables():
    _forget()
    yield
    _forget()
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def test_other_defaults_of_torch_change_nothing(fresh_tables):
    images, examples = photographs(2), torch.arange(2)

    def made():
        return {name: corrupt(images, name, 3, examples=examples) for name in CORRUPTIONS}

    expected = made()
    _forget()
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("meta")
    out = made()
    assert [name for name in CORRUPTIONS if not torch.equal(out[name], expected[name])] == []
