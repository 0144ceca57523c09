"""Image files of many sizes: scaled and cut as torchvision does it, once, few at a time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import assert_equal, load, photographs
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from selbench._kit import chunks
from selbench._kit.errors import SelbenchError
from selbench._kit.progress import SILENT
from selbench.attacks.gradient import Attacked
from selbench.datasets import cache, dataset, frame, images, load_dataset, room
from selbench.datasets.frame import MODES, Frame
from selbench.networks import timm_zoo
from selbench.networks.described import NetworkSpec
from selbench.networks.framing import framed
from selbench.networks.loading import bring
from selbench.study import DatasetSpec, ModelSpec, load_study
from selbench.suites import Condition, bench

SIZES = ((40, 30), (30, 40), (30, 30), (31, 97), (12, 12), (7, 9), (24, 24), (25, 24), (160, 11))
DECLARED = {"resize": "network"}
RESNET = NetworkSpec(spec="torchvision:resnet18")
SMALL = NetworkSpec(spec="torchvision:shufflenet_v2_x0_5")


@pytest.fixture
def many_sizes(tmp_path, fresh_home):
    """Write 54 test images of several sizes, of two classes."""
    for number, (width, height) in enumerate(SIZES * 6):
        folder = tmp_path / "photos" / "test" / f"class-{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photographs(height, width, seed=number)).save(folder / f"{number:02}.png")
    return tmp_path / "photos"


def spec(root=None, **size):
    return DatasetSpec(name="folder", root=root, validation=1, **size)


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize(("resize", "crop"), [(24, 24), (24, 17), (25, 24), (33, 20), (9, 8)])
def test_images_are_torchvision_s_to_the_byte(interpolation, resize, crop):
    scale, cut = Resize(resize, InterpolationMode(interpolation)), CenterCrop(crop)
    for seed, (width, height) in enumerate(SIZES):
        image = Image.fromarray(photographs(height, width, seed=seed))
        found = np.asarray(Frame(crop, resize, interpolation).of(image))
        assert np.array_equal(found, np.asarray(cut(scale(image))))


def test_a_crop_alone_scales_nothing():
    image = Image.fromarray(photographs(31, 40))
    assert np.array_equal(Frame(12).of(image), CenterCrop(12)(image))


def test_a_folder_of_many_sizes_is_read_in_order_and_kept_at_home(many_sizes, fresh_home):
    data = load_dataset(spec(many_sizes, resize=16, crop=12, interpolation="bicubic"))
    paths = sorted(many_sizes.rglob("*.png"))
    for path, pixels in zip(paths, data.test.images, strict=True):
        expected = Frame(12, 16, "bicubic").of(Image.open(path))
        assert np.array_equal(pixels.permute(1, 2, 0), np.asarray(expected))
    assert not (many_sizes / ".selbench.safetensors").exists()
    assert [path.suffix for path in (fresh_home / "datasets").iterdir()] == [".safetensors"]


def test_every_size_is_a_data_set_of_its_own_and_decoded_once(many_sizes, fresh_home, monkeypatch):
    sizes = [{"resize": 8}, {"resize": 8, "interpolation": "nearest"}, {"resize": 9, "crop": 8}]
    before = [load_dataset(spec(many_sizes, **size)) for size in sizes]
    assert len({data.test.checksum for data in before}) == 3
    monkeypatch.setattr(cache, "each_decoded", None)
    for size, data in zip(sizes, before, strict=True):
        assert_equal(load_dataset(spec(many_sizes, **size)), data)
    same = load_dataset(spec(many_sizes, resize=8, crop=8, interpolation="bilinear"))
    assert_equal(same, before[0])


def test_few_images_are_held_at_once(many_sizes, monkeypatch):
    paths = [many_sizes / "test" / "class-0" / "00.png"] * 60
    begun = []
    genuine = images.decode_image
    monkeypatch.setattr(images, "decode_image", lambda *given: begun.append(1) or genuine(*given))
    monkeypatch.setattr(images, "WORKERS", 2)
    for taken, _ in enumerate(images.each_decoded(paths, SILENT, "")):
        assert len(begun) <= taken + 2 * images.WORKERS + 2
    assert taken == 59


def file_of(tensor):
    """Return the file that a tensor is mapped from; "" for memory without one."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, *_, inode = line.split(maxsplit=5)[:5]
        low, high = (int(end, 16) for end in area.split("-"))
        if low <= tensor.data_ptr() < high and int(inode):
            return line.split(maxsplit=5)[5]
    return ""


def test_images_are_mapped_from_the_cache(many_sizes):
    load_dataset(spec(many_sizes, resize=100))
    assert "folder-" in file_of(load_dataset(spec(many_sizes, resize=100)).test.images)


def test_large_parts_are_in_files_and_small_ones_in_memory(many_sizes, fresh_home, monkeypatch):
    test = load_dataset(spec(many_sizes, resize=100)).test
    places = torch.tensor([3, 1, 7])
    small = test.take(places)
    monkeypatch.setattr(room, "IN_MEMORY", 3 * 100 * 100 * 3 - 1)
    monkeypatch.setattr(dataset, "TAKEN", 2)
    monkeypatch.setattr(chunks, "PIXELS", 2 * 100 * 100)
    large = test.take(places)
    condition = Condition("corruptions", "darker", perturb=lambda images, examples: images // 2)
    made = condition.made_of(test, None)
    for found, expected in ((large.images, test.images[places]), (made, test.images // 2)):
        assert file_of(found).startswith(str(fresh_home / "datasets"))
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)
    assert len(list((fresh_home / "datasets").iterdir())) == 1  # the cache
    assert not file_of(small.images)
    assert torch.equal(small.images, large.images)


@pytest.mark.parametrize(
    ("count", "side", "save", "size"),
    [(1001, 4, 0, 1000), (1001, 64, 0, 1000), (93, 224, 0, 83), (93, 224, 90, 90)],
)
def test_fewer_large_images_are_attacked_at_once(count, side, save, size):
    pixels = torch.zeros(1, dtype=torch.uint8).expand(count, 3, side, side)
    split = dataset.Split(pixels, torch.zeros(count).long(), torch.arange(count), "")
    seen = []

    def attack(network, images, labels, examples):
        seen.append(len(images))
        logits = torch.zeros(len(images), 2)
        return [Attacked(images, logits, labels == 1, labels)]

    *_, saved = bench.run_attack(attack, [1.0], [torch.nn.Identity()], split, save)
    assert seen[0] == size
    assert sum(seen) == count
    assert len(saved.get("clean", ())) == save


def test_a_description_without_a_size_is_what_it_was():
    assert spec("x").model_dump(mode="json") == {"name": "folder", "root": "x", "validation": 1}


# What is refused.


def test_images_of_many_sizes_name_the_options_that_would_work(many_sizes):
    with pytest.raises(SelbenchError) as told:
        load("folder", many_sizes)
    sentence = str(told.value)
    assert "02.png is 30 x 30 pixels" in sentence
    assert "00.png is 40 x 30; all images of a data set must have one size; scale and" in sentence
    side = int(sentence.partition("--resize ")[2].split()[0])
    assert load_dataset(spec(many_sizes, resize=side)).test.images.shape[2:] == (side, side)
    assert "resize = 30 under [dataset]" in sentence


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            {"crop": 20},
            r"class-0/04.png is 12 x 12 pixels and has no centre of 20;",
        ),
        ({"resize": "network"}, r"--resize network .* add --model, or give a number of pixels$"),
    ],
)
def test_a_size_that_images_cannot_have_is_refused(size, message, many_sizes):
    with pytest.raises(SelbenchError, match=message):
        load_dataset(spec(many_sizes, **size))


def test_images_that_scaling_would_blow_up_are_refused(tmp_path):
    path = tmp_path / "line.png"
    Image.new("RGB", (30000, 1)).save(path)
    with pytest.raises(SelbenchError, match=r"line.png would be 7680000 x 256 pixels once scaled"):
        images.decode_image(path, Frame(224, 256))


def test_photographs_may_be_larger_where_they_are_scaled_but_not_huge(tmp_path, monkeypatch):
    path = tmp_path / "wide.png"
    Image.new("RGB", (5000, 40)).save(path)
    with pytest.raises(SelbenchError, match="larger than 4096 pixels"):
        images.decode_image(path)
    assert images.decode_image(path, Frame(8, 8)).shape == (8, 8, 3)
    monkeypatch.setattr(images, "LARGEST", 1000)
    with pytest.raises(SelbenchError, match=r"wide.png is 5000 x 40 pixels; shrink or remove it"):
        images.decode_image(path, Frame(8, 8))


def test_data_sets_of_one_size_say_so():
    with pytest.raises(SelbenchError, match=r"are for folder.* those of digits have one: leave"):
        load_dataset(DatasetSpec(name="digits", validation=1, resize=8))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"resize": 8, "crop": 9}, "^--resize 8 --crop 9: crop = 9 is larger than resize = 8;"),
        ({"resize": 0}, "^--resize 0: "),
        ({"crop": 8, "interpolation": "nearest"}, "interpolation belongs to resize; give both"),
        ({"resize": 8, "interpolation": "cubic"}, "^--resize 8 --interpolation cubic: input shou"),
        ({"resize": "network", "crop": 8}, "takes the rest from the network too; leave out crop"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(SelbenchError, match=message):
        framed(spec(), given, [RESNET])


# As the network declares.


def test_what_is_given_takes_the_place_of_all_that_a_study_says():
    said = spec(resize=50, crop=40, interpolation="bicubic")
    assert framed(said, {}, []) == said
    assert framed(said, {"crop": 30}, []) == spec(crop=30)


def test_a_network_of_torchvision_declares_its_preset():
    size = {"resize": 256, "crop": 224, "interpolation": "bilinear"}
    assert framed(spec(), DECLARED, [RESNET]) == spec(**size)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_a_network_of_timm_declares_what_timm_evaluates_it_with(name):
    timm = timm_zoo._library()
    config = timm.data.resolve_model_data_config(timm.create_model(name))
    pixels = timm.data.create_transform(**config, is_training=False).transforms[:2]
    found = frame.frame_of(framed(spec(), DECLARED, [NetworkSpec(spec=f"timm:{name}")]))
    image = Image.fromarray(photographs(300, 410))
    assert np.array_equal(found.of(image), np.asarray(pixels[1](pixels[0](image))))


def test_networks_that_differ_are_told_apart():
    others = [RESNET, NetworkSpec(spec="torchvision:vit_b_16", pretrained=True)]
    assert framed(spec(), DECLARED, [RESNET, RESNET]).resize == 256
    with pytest.raises(SelbenchError, match=r"differ \(torchvision:resnet18: shorter side 256"):
        framed(spec(), DECLARED, [*others, NetworkSpec(spec="timm:resnet18")])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (NetworkSpec(spec="mine.py:build"), "^mine.py:build declares no size of images, as"),
        (NetworkSpec(spec="timm:coat_lite_medium_384"), r"squeezed .* --resize 384 --crop 384$"),
    ],
)
def test_networks_that_declare_nothing_that_is_done_here_are_refused(network, message):
    with pytest.raises(SelbenchError, match=message):
        framed(spec(), DECLARED, [network])


def test_a_network_takes_images_of_its_size_as_they_are(many_sizes):
    data = load_dataset(framed(spec(many_sizes), DECLARED, [SMALL]))
    assert data.test.images.shape[2:] == (224, 224)
    network = bring(SMALL, ModelSpec(name="none"), data)
    pixels = data.test.images[:2] / 255
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    plain = network.load()[1]
    with torch.no_grad():
        assert torch.allclose(network.load()(pixels), plain((pixels - mean) / std), atol=1e-5)
    assert "shorter side" not in network.about
    other = bring(SMALL, ModelSpec(name="none"), load_dataset(spec(many_sizes, resize=32)))
    assert "shorter side 256 (bilinear), centre 224" in other.about


def test_commands_take_photographs_of_many_sizes(many_sizes, selbench, tmp_path, refused):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
    )
    words = ("run", "--dataset", "folder", "--data", many_sizes, "--suite", "clean")
    words += ("--store", tmp_path / "runs", "--model", f"{tmp_path}/net.py:build")
    assert "--resize 30" in refused(*words)
    assert "got '12a'" in refused(*words, "--resize", "12a")
    assert "net.py:build declares no size of images" in refused(*words, "--resize", "network")
    ended = selbench(*words, "--resize", "16", "--crop", "12")
    assert ended.code == 0
    assert ended.err.startswith("images: shorter side 16 (bilinear), centre 12\n")
    manifest = json.loads((tmp_path / "runs" / "photos" / "manifest.json").read_text())
    assert manifest["study"]["dataset"]["resize"] == 16
    more = refused("leaderboard", "--store", tmp_path / "runs", "--columns", "fgsm")
    assert "--resize 16 --crop 12" in more


def test_init_takes_photographs_of_many_sizes_as_the_network_declares(
    many_sizes, selbench, refused, tmp_path
):
    words = ("init", many_sizes, "-o", tmp_path / "study.toml")
    assert "--resize 30" in refused(*words, "--model", "mine.py:build")
    ended = selbench(*words, "--model", "timm:test_byobnet")
    assert ended.code == 0, ended.err
    assert ended.err.startswith("images: shorter side 182 (bicubic), centre 160\n")
    assert "with the constants of 224 pixels, the nearest to 160 x 160\n" in ended.err
    written = load_study(str(tmp_path / "study.toml"))
    assert (written.dataset.resize, written.dataset.crop) == (182, 160)
    assert written.corruptions.scale == 224


def test_sets_are_made_of_photographs_of_many_sizes(many_sizes, selbench, tmp_path):
    words = ("corrupt", many_sizes, tmp_path / "set", "--severity", "1")
    ended = selbench(*words, "--corruption", "brightness", "--resize", "32")
    assert ended.code == 0
    assert np.load(tmp_path / "set" / "brightness.npy").shape == (54, 32, 32, 3)
