"""Results that can be worked out by hand."""

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from corruptions import CORRUPTIONS, corrupt
from corruptions.colours import recoloured
from corruptions.draws import KeyedDraws
from corruptions.filters import gaussian_filtered, kernel_filtered
from corruptions.separable import blurred, border_index, zoom_matrix
from corruptions.splashes import _distances, _edges
from corruptions.streaks import streaked
from corruptions.types import as_bytes, as_fractions, as_images, truncated


def flat(level: int, batch: int = 1, size: int = 32) -> torch.Tensor:
    return torch.full((batch, 3, size, size), level, dtype=torch.uint8)


def dot(size: int = 32) -> torch.Tensor:
    image = flat(0, size=size)
    image[:, :, size // 2, size // 2] = 255
    return image


def noise(height: int, width: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def once(images: torch.Tensor, name: str, severity: int, **settings) -> torch.Tensor:
    return corrupt(images, name, severity, examples=torch.arange(len(images)), **settings)


def test_bytes_survive_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    assert torch.equal(as_bytes(as_images(levels)), levels)
    assert torch.equal(as_bytes(as_images(levels) / 255 * 255), levels)

    assert torch.equal(as_bytes(as_fractions(as_images(levels)) * 255), levels)


def test_bytes_are_truncated_and_clipped():
    values = torch.tensor([-3.0, 16.9, 17.0, 16.99999, 255.9, 300.0]).expand(1, 3, 1, 6)
    expected = torch.tensor([0, 16, 17, 17, 255, 255], dtype=torch.uint8)
    assert torch.equal(as_bytes(values)[0, 0, 0], expected)
    expected[3] = 16  # in float64 nothing is made good
    assert torch.equal(as_bytes(values.double())[0, 0, 0], expected)


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
def test_spread_of_normal_noise(name, size):
    for severity in range(1, 6):
        std = CORRUPTIONS[name].severities[size][severity - 1]
        level = 128
        out = once(flat(level, 4, size), name, severity).double()
        inside = out[(out > 0) & (out < 255)] if std < 0.12 else None
        expected = std * (level if name == "speckle_noise" else 255)
        if inside is not None:
            assert inside.mean() == pytest.approx(
                level - 0.5, abs=5 * expected / len(inside) ** 0.5
            )
            assert inside.std() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_shot_noise_has_the_variance_of_photons(severity):
    photons = CORRUPTIONS["shot_noise"].severities[32][severity - 1]
    out = once(flat(51, 8), "shot_noise", severity).double()
    assert out.mean() == pytest.approx(51, abs=0.7)
    assert out.var() == pytest.approx(51 * 255 / photons, rel=0.05)
    assert (once(flat(0), "shot_noise", severity) == 0).all()


@pytest.mark.parametrize("severity", range(1, 6))
def test_impulse_noise_sets_as_many_values_to_each_end(severity):
    amount = CORRUPTIONS["impulse_noise"].severities[64][severity - 1]
    out = once(flat(100, 8, 64), "impulse_noise", severity)
    tolerance = 4 * (amount / out.numel()) ** 0.5
    assert (out == 0).double().mean() == pytest.approx(amount / 2, abs=tolerance)
    assert (out == 255).double().mean() == pytest.approx(amount / 2, abs=tolerance)
    assert ((out == 0) | (out == 255) | (out == 100)).all()


@pytest.mark.parametrize(
    "name",
    [
        "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur", "contrast",
        "elastic_transform", "pixelate",
    ],
)  # fmt: skip
@pytest.mark.parametrize("level", [0, 17, 255])
def test_one_colour_has_nothing_to_blur(name, level):
    for severity in range(1, 6):
        assert torch.equal(once(flat(level), name, severity), flat(level))


@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur", "gaussian_blur"])
@pytest.mark.parametrize("size", [32, 64])
def test_blur_spreads_a_dot_but_keeps_its_light(name, size):
    out = CORRUPTIONS[name].function(dot(size).float(), CORRUPTIONS[name].severities[size][4])
    assert out.max() < 200
    if name != "zoom_blur":
        assert out.sum() == pytest.approx(3 * 255, rel=1e-4)
        assert torch.allclose(out, out.flip(2).roll(1, 2), atol=1e-3)
        assert torch.allclose(out, out.mT, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("border", ["nearest", "mirror", "reflect"])
def test_blur_is_that_of_scipy(sigma, border):
    images = noise(20, 31).double()
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode=border)
    np.testing.assert_allclose(blurred(images.float(), sigma, border), expected, atol=1e-3)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.06, 1.25, 1.75, 2.25, 4.5])
@pytest.mark.parametrize("size", [32, 40, 224])
def test_zoom_is_that_of_scipy(size, factor):
    values = np.random.default_rng(0).random(size)
    kept = int(np.ceil(size / factor))
    first = (size - kept) // 2
    zoomed = ndimage.zoom(values[first : first + kept], factor, order=1)
    surplus = (len(zoomed) - size) // 2
    ours = zoom_matrix(size, factor).numpy() @ values
    np.testing.assert_allclose(ours, zoomed[surplus : surplus + size], atol=1e-12)


def test_borders():
    places = torch.arange(-4, 7)
    assert border_index(places, 3, "nearest").tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2]
    assert border_index(places, 3, "mirror").tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert border_index(places, 3, "reflect").tolist() == [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]
    assert border_index(places, 1, "mirror").tolist() == [0] * 11


@pytest.mark.parametrize(("degrees", "step"), [(0, (0, -1)), (90, (-1, 0)), (-90, (1, 0))])
def test_streak_runs_one_way_and_fades(degrees, step):
    out = streaked(dot().float(), 6, 2.0, torch.tensor([float(degrees)]))
    down, across = step
    along = [out[0, 0, 16 + i * down, 16 + i * across].item() for i in range(5)]
    weights = np.exp(-0.5 * (np.arange(13) / 2) ** 2)
    assert along == np.floor(255 * weights / weights.sum() + 0.5 / 257)[:5].tolist()
    assert out.sum() == 3 * sum(out[0, 0, 16 + i * down, 16 + i * across] for i in range(13))


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", ["glass_blur"])
def test_glass_only_moves_colours_about(name, severity):
    # at this size and severity the blur has no reach, so that what is left is the moving about
    images = noise(32, 32)
    entry = CORRUPTIONS[name]
    draws = KeyedDraws("glass", torch.arange(2))
    out = truncated(entry.function(images.float(), (0.05, 1, severity), draws))
    assert set(out[0, 0].flatten().tolist()) <= set(images[0, 0].flatten().tolist())
    pairs = torch.stack((out[0, 0], out[0, 1], out[0, 2]), dim=-1).flatten(0, 1)
    before = images[0].permute(1, 2, 0).flatten(0, 1).float()
    assert (pairs.unsqueeze(1) == before).all(2).any(1).all()


def test_brightness_adds_to_value():
    image = flat(0)
    image[:, 0], image[:, 1], image[:, 2] = 100, 50, 20
    out = once(image, "brightness", 4)  # + 0.2 * 255 = 51
    assert out[0, :, 0, 0].tolist() == [151, 75, 30]
    assert (once(flat(0), "brightness", 4) == 51).all()
    assert (once(flat(250), "brightness", 1) == 255).all()


def test_contrast_shrinks_about_the_mean():
    image = flat(40)
    image[..., 16:] = 200
    out = once(image, "contrast", 2)
    assert out[0, 0, 0, 0] == 80
    assert out[0, 0, 0, 31] == 160


def test_saturation():
    image = flat(0)
    image[:, 0], image[:, 1], image[:, 2] = 200, 97, 97
    assert once(image, "saturate", 3)[0, :, 0, 0].tolist() == [200, 45, 45]  # times 1.5
    assert once(image, "saturate", 2)[0, :, 0, 0].tolist() == [200, 189, 189]  # times 0.1
    assert once(flat(201), "saturate", 4)[0, :, 0, 0].tolist() == [201, 180, 180]  # grey plus 0.1


def test_hues_are_those_of_the_standard_library():
    colours = torch.cartesian_prod(*3 * [torch.tensor([0, 1, 90, 91, 254, 255])]).to(torch.uint8)
    images = colours.T.reshape(1, 3, 12, 18)
    kept = recoloured(as_fractions(images.float()), lambda *both: both)
    assert torch.allclose(255 * kept, images.double(), atol=1e-12)
    bleached = recoloured(
        as_fractions(images.float()), lambda s, v: (s / 3, (v + 0.1).clamp(max=1))
    )
    for colour, ours in zip(colours.tolist(), bleached.flatten(2)[0].T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(level / 255 for level in colour))
        expected = colorsys.hsv_to_rgb(hue, saturation / 3, min(value + 0.1, 1))
        assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.0, 3.0])
def test_gaussian_filter_is_that_of_scipy_to_the_last_bit(sigma):
    images = as_fractions(noise(20, 31).float())
    images[1, 0] = 237 / 255  # where the last bits tell which level it becomes
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest")
    np.testing.assert_array_equal(gaussian_filtered(images, sigma).numpy(), expected)


def test_kernel_filter_is_that_of_scipy():
    quarter = torch.rand(4, 4, generator=torch.Generator().manual_seed(1))
    kernel = torch.cat((quarter.flip(0)[:-1], quarter))
    kernel = torch.cat((kernel.flip(1)[:, :-1], kernel), dim=1)
    images = noise(9, 14).double()
    weights = kernel.double().numpy()[None, None]
    expected = ndimage.correlate(images.numpy(), weights, mode="mirror")
    np.testing.assert_allclose(kernel_filtered(images, kernel).numpy(), expected, rtol=1e-13)


def test_contrast_adds_up_like_numpy():
    images = noise(32, 32, batch=64)
    for severity, factor in enumerate(CORRUPTIONS["contrast"].severities[32], start=1):
        fractions = images.permute(0, 2, 3, 1).contiguous().numpy() / 255.0
        means = np.stack([image.mean(axis=(0, 1), keepdims=True) for image in fractions])
        expected = np.uint8(((fractions - means) * factor + means).clip(0, 1) * 255)
        ours = once(images, "contrast", severity).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(ours, expected)


def test_pixelate_repeats_means():
    images = noise(64, 64)
    out = once(images, "pixelate", 5)  # to 32 pixels
    assert torch.equal(out, out[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    across = (images[..., ::2].int() + images[..., 1::2].int() + 1) // 2
    mean = (across[..., ::2, :] + across[..., 1::2, :] + 1) // 2
    assert torch.equal(out[..., ::2, ::2].int(), mean)


FACTORS = sorted(
    {factor for each in CORRUPTIONS["pixelate"].severities.values() for factor in each}
)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("step", [14, pytest.param(2, marks=pytest.mark.soak)])
@pytest.mark.sample
def test_pixelate_is_pillow_s_at_every_side(factor, step):
    wide = [(8, side) for side in range(5, 411, step)]
    upright = [(side, side // 2 + 1) for side in range(42, 411, 37)]  # narrower: Pillows differ
    for shape in wide + upright:
        values = noise(*shape, batch=1)
        picture = Image.fromarray(values[0].permute(1, 2, 0).numpy())
        for height, width in ([int(size * factor) for size in shape], shape):
            picture = picture.resize((width, height), Image.Resampling.BOX)
        ours = CORRUPTIONS["pixelate"].function(values.float(), factor)[0].permute(1, 2, 0)
        np.testing.assert_array_equal(ours.numpy(), np.asarray(picture), f"{shape} by {factor}")


@pytest.mark.parametrize("quality", [1, 10, 50, 90, 100])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (17, 16), (40, 56), (8, 12)])
def test_jpeg_is_that_of_the_codec(height, width, quality):
    images = noise(height, width)
    images[1] = images[1].float().mean().to(torch.uint8)
    images[1, 0, : height // 2] = 255
    ours = CORRUPTIONS["jpeg_compression"].function(images.float(), quality)
    for image, out in zip(images, ours, strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        with Image.open(file) as decoded:
            expected = np.asarray(decoded)
        np.testing.assert_array_equal(out.permute(1, 2, 0).numpy(), expected)


def test_fog_keeps_the_brightest_value_as_bound():
    images = noise(32, 32)
    out = once(images, "fog", 5)
    assert out.max() <= images.max()
    assert out.float().std() < images.float().std()
    assert (once(flat(0), "fog", 5) == 0).all()


def test_snow_and_its_mirror_image_brighten_black():
    out = once(flat(0, 8), "snow", 3)
    # (1 - 0.9) * 127.5 = 12.75 where no flake is
    assert out.min() == 12
    assert torch.equal(out, out.rot90(2, (2, 3)))
    assert torch.equal(out[:, 0], out[:, 1])


def test_mud_covers_and_water_shines():
    out = once(flat(0, 8), "spatter", 5)
    muddy = out.movedim(1, 3)[out[:, 0] > 0].double()
    brown = torch.tensor([63, 42, 20])
    assert (muddy <= brown).all()
    assert (muddy > 0.8 * brown - 1).all()  # thinner mud is none
    assert (out == 0).any()
    shining = once(flat(0, 8), "spatter", 1).amax((0, 2, 3))
    assert shining.tolist() == [87, 119, 119]  # half of pale turquoise
    images = noise(32, 32)
    assert (once(images, "spatter", 2) >= images).all()


def test_distances_to_a_point():
    targets = torch.zeros(1, 45, 45, dtype=torch.bool)
    targets[0, 22, 22] = True
    distances = _distances(targets)[0]
    assert distances[22, 22] == 0
    assert distances[22, 27] == 5
    assert distances[23, 23] == 91750 / 65536
    assert distances[24, 23] == 143976 / 65536
    assert distances[22, 44] == 20
    exact = ndimage.distance_transform_edt(~targets[0].numpy())
    assert np.abs(distances.numpy() - np.minimum(exact, 20)).max() < 0.4


def test_edges_of_a_step():
    planes = torch.zeros(1, 9, 9)
    planes[..., 5:] = 100
    assert _edges(planes)[0].nonzero()[:, 1].unique().tolist() == [4]
    assert not _edges(planes / 10).any()
