"""What an image file decodes to: one rule for data sets, `corrupt` and sets on disk."""

import numpy as np
import pytest
from loading import photographs
from PIL import Image, ImageOps

from selbench._kit.errors import SelbenchError
from selbench.datasets.images import TURNS, decode_image, suffixes

PIXELS = photographs(6, 4)
GREY = PIXELS[..., 0]
DEEP = GREY.astype(np.uint16) * 256 + 200  # the lower byte would round up


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("orientation", [0, 1, *TURNS, 9])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_images_are_upright(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, Image.fromarray(PIXELS), f"a.{suffix}", exif=exif, **options)
    plain = saved(tmp_path, Image.fromarray(PIXELS), f"b.{suffix}", **options)
    upright = Image.fromarray(decode_image(plain))
    upright.getexif()[0x112] = orientation
    assert np.array_equal(decode_image(path), np.asarray(ImageOps.exif_transpose(upright)))


def test_orientation_6_is_a_quarter_turn_clockwise(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    path = saved(tmp_path, Image.fromarray(PIXELS), "a.png", exif=exif)
    assert np.array_equal(decode_image(path), np.rot90(PIXELS, -1))


def test_a_photograph_whose_exif_is_damaged_is_read(tmp_path):
    path = saved(tmp_path, Image.fromarray(PIXELS), "a.png")
    broken = saved(tmp_path, Image.fromarray(PIXELS), "b.png", exif=b"Exif\0\0MM\0*\0\0\0\7junk")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):  # Pillow's own
        assert np.array_equal(decode_image(broken), decode_image(path))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_blended_over_white(mode, tmp_path):
    alpha = np.uint8([[0, 255, 128, 51]] * 6)
    colour = PIXELS if mode == "RGBA" else np.repeat(GREY[..., None], 3, 2)
    image = Image.fromarray(np.dstack([colour, alpha]))
    if mode == "LA":
        image = image.convert("LA")
    path = saved(tmp_path, image, "a.png")
    weight = alpha[..., None] / 255
    expected = colour * weight + 255 * (1 - weight)
    found = decode_image(path)
    assert (found[:, 0] == 255).all()
    assert np.array_equal(found[:, 1], colour[:, 1])
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(("mode", "suffix"), [("P", "png"), ("P", "gif"), ("L", "png")])
def test_the_colour_that_is_transparent_is_white(mode, suffix, tmp_path):
    values = np.uint8([[0, 1, 2, 3]] * 6)
    image = Image.fromarray(values)
    if mode == "P":
        image = image.convert("P")
        image.putpalette([9, 9, 9, 50, 60, 70, 80, 90, 100, 110, 120, 130])
    found = decode_image(saved(tmp_path, image, f"a.{suffix}", transparency=2))
    assert (found[:, 2] == 255).all()
    assert (found[:, 1] == ([50, 60, 70] if mode == "P" else 1)).all()


def write_deep_rgb(path, values):
    """Write a PNG of 16 bits per channel, which Pillow does not write."""
    import struct
    import zlib

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )


def test_of_16_bits_the_upper_8_are_taken_grey_or_not(tmp_path):
    colours = PIXELS.astype(np.uint16) * 256 + 200
    write_deep_rgb(tmp_path / "rgb.png", colours)
    grey = [saved(tmp_path, Image.fromarray(DEEP), name) for name in ("a.png", "a.tif")]
    with pytest.warns(UserWarning, match=r"^some image files have 16 bits per channel; the upper"):
        assert np.array_equal(decode_image(tmp_path / "rgb.png"), PIXELS)
    for path in grey:
        with pytest.warns(UserWarning, match="16 bits"):
            found = decode_image(path)
        assert np.array_equal(found, np.repeat(GREY[..., None], 3, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pgm_of_16_bits_is_rounded_as_a_ppm_is(channels, tmp_path):
    kind, path = ("P5", "P6")[channels == 3], tmp_path / "a.pnm"
    values = np.repeat(DEEP[..., None], channels, 2).astype(">u2")
    path.write_bytes(f"{kind} 4 6 65535\n".encode() + values.tobytes())
    if channels == 1:
        with pytest.warns(UserWarning, match="16 bits"):
            found = decode_image(path)
    else:
        found = decode_image(path)
    assert np.array_equal(found[..., 0], np.rint(DEEP / 257))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_more_than_16_bits_are_refused(dtype, tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY.astype(dtype)), "a.tif")
    with pytest.raises(SelbenchError, match=f"^{path} has more than 16 bits per channel; convert"):
        decode_image(path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_of_several_frames_is_taken_and_it_is_said(suffix, tmp_path):
    frames = [Image.new("RGB", (4, 6), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(
        tmp_path, frames[0], f"a.{suffix}", save_all=True, append_images=frames[1:], **options
    )
    with pytest.warns(UserWarning, match=r"^some image files have several frames; the first of"):
        found = decode_image(path)
    assert (found == [255, 0, 0]).all()


@pytest.mark.parametrize(
    "suffix", ["gif", "tiff", "jfif", "pgm", "jp2", "tga", "ico", "qoi", "dib", "pcx", "sgi"]
)
def test_what_pillow_reads_is_read(suffix, tmp_path):
    assert f".{suffix}" in suffixes()
    image = Image.new("RGB", (16, 16), (40, 40, 40))
    path = tmp_path / f"a.{suffix}"
    image.save(path, format="JPEG" if suffix == "jfif" else None)
    assert (decode_image(path) == 40).all()


def test_what_is_no_picture_is_not_read():
    assert not suffixes() & {".h5", ".hdf", ".mpg", ".eps", ".ps", ".wmf", ".pdf", ".txt"}


def test_a_file_that_another_program_would_draw_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")
    with pytest.raises(SelbenchError, match=f"^{path} cannot be decoded as an image"):
        decode_image(path)


def test_cmyk_is_as_pillow_converts_it(tmp_path):
    path = saved(tmp_path, Image.fromarray(PIXELS).convert("CMYK"), "a.tif")
    assert np.array_equal(decode_image(path), PIXELS)
