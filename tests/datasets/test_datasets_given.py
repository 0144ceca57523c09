"""Data from Python: what is converted for certain gives the same images; the rest is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from selbench._kit.errors import SelbenchError
from selbench.datasets import Dataset, dataset_of
from selbench.datasets.dataset import make_split

generator = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (12, 3, 8, 6), generator=generator, dtype=torch.uint8)
LABELS = torch.arange(12) % 4
GREY = PIXELS[:, :1]
HWC = PIXELS.permute(0, 2, 3, 1)
FLOAT = PIXELS / 255


def of(given, outputs=4):
    return dataset_of(given, lambda images: outputs)


class Items(TorchDataset):
    """Images that a transform is made of, one by one."""

    def __init__(self, transform):
        self.transform, self.images, self.labels = transform, HWC.numpy(), LABELS.tolist()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, place):
        return self.transform(Image.fromarray(self.images[place])), self.labels[place]


class Several(Items):
    """Gives mappings."""

    def __getitem__(self, place):
        image, label = super().__getitem__(place)
        return {"image": image, "label": label}


TENSORS = Items(transforms.ToTensor())
IMAGES = {
    "uint8": PIXELS,
    "numpy": PIXELS.numpy(),
    "channels last": HWC,
    "in [0, 1]": FLOAT,
    "float64 in [0, 1]": PIXELS.double().numpy() / 255,
    "float16 in [0, 1]": FLOAT.half(),
    "float 0..255": PIXELS.float(),
    "int64": PIXELS.long(),
    "int16, big-endian": PIXELS.numpy().astype(">i2"),
    "not contiguous": PIXELS.repeat_interleave(2, 3)[..., ::2],
    "negative strides": PIXELS.numpy()[:, :, ::-1].copy()[:, :, ::-1],
    "with a gradient": FLOAT.clone().requires_grad_(),
    "a list of arrays": list(HWC.numpy()),
    "PIL images": [Image.fromarray(each) for each in HWC.numpy()],
}


@pytest.mark.parametrize("what", IMAGES)
def test_images_of_every_kind_are_the_same_pixels(what):
    found = of((IMAGES[what], LABELS)).test
    assert found.checksum == make_split(PIXELS, LABELS).checksum
    assert torch.equal(found.images, PIXELS)


@pytest.mark.parametrize("grey", [GREY, GREY[:, 0], GREY.permute(0, 2, 3, 1), GREY[:, 0] / 255])
def test_grey_images_have_three_equal_channels(grey):
    assert torch.equal(of((grey, LABELS)).test.images, GREY.expand(-1, 3, -1, -1))


TRUTHS = {
    "int32": LABELS.int(),
    "uint8": LABELS.byte(),
    "floats": LABELS.float(),
    "a column": LABELS[:, None],
    "a list": LABELS.tolist(),
    "numpy": LABELS.numpy(),
    "one-hot": torch.nn.functional.one_hot(LABELS),
    "one-hot floats": torch.eye(4)[LABELS].numpy(),
    "from 1": LABELS + 1,
    "a tuple of tensors": tuple(LABELS),
}


@pytest.mark.parametrize("what", TRUTHS)
def test_labels_of_every_kind_are_the_same_numbers(what):
    found = of((PIXELS, TRUTHS[what]))
    assert torch.equal(found.test.labels, LABELS)
    assert found.test.labels.dtype == torch.int64
    assert found.classes == ("0", "1", "2", "3")


def test_names_of_classes_are_numbers_where_their_order_is_known():
    items = Items(transforms.ToTensor())
    items.classes, items.labels = ["d", "c", "b", "a"], ["dcba"[label] for label in LABELS]
    found = of(items)
    assert torch.equal(found.test.labels, LABELS)
    assert found.classes == ("d", "c", "b", "a")
    items.labels[3] = "aa"
    with pytest.raises(SelbenchError, match="unknown class among the labels 'aa'; did you mean"):
        of(items)


def test_labels_from_1_to_one_less_than_the_classes_stay():
    assert torch.equal(of((PIXELS, LABELS + 1), 5).test.labels, LABELS + 1)


DATA = {
    "tensors of torch": TensorDataset(FLOAT, LABELS),
    "items": TENSORS,
    "items without tensors": Items(lambda image: image),
    "items of mappings": Several(transforms.ToTensor()),
    "a loader": DataLoader(TENSORS, batch_size=5),
    "a loader that shuffles": DataLoader(TENSORS, batch_size=5, shuffle=True, drop_last=True),
    "a sequence of pairs": [(image, label) for image, label in zip(FLOAT, LABELS, strict=True)],
    "a mapping": {"images": PIXELS, "labels": LABELS},
    "a split": make_split(PIXELS, LABELS),
    "a subset": Subset(TENSORS, range(12)),
}


@pytest.mark.parametrize("what", DATA)
def test_data_of_every_kind_is_the_same(what):
    found = of(DATA[what]).test
    assert torch.equal(found.images, PIXELS)
    assert torch.equal(found.labels, LABELS)


def test_a_part_is_that_part_in_the_order_of_the_whole():
    sampler = SubsetRandomSampler([7, 2, 5])
    for part in (Subset(TENSORS, [2, 5, 7]), DataLoader(TENSORS, 2, sampler=sampler)):
        assert torch.equal(of(part).test.images, PIXELS[[2, 5, 7]])


def test_a_folder_of_torchvision_has_its_names(images):
    folder = ImageFolder(images / "test", transforms.ToTensor())
    found = of(folder, None)
    assert found.classes == ("digit-0", "digit-1", "digit-2")
    assert found.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert of(DataLoader(Subset(folder, [0, 1])), None).classes == found.classes


def test_a_data_set_of_ours_stays_as_it_is():
    split = make_split(PIXELS, LABELS)
    whole = Dataset("mine", ("a", "b", "c", "d"), split, split)
    assert of(whole) is whole


def test_a_part_with_the_checksum_of_the_whole_gets_its_own():
    split = make_split(PIXELS, LABELS)
    part = of(Dataset("mine", ("a", "b", "c", "d"), split, split.take(LABELS[:4])))
    assert part.test.checksum != split.checksum
    assert torch.equal(part.test.images, PIXELS[:4])


NORMAL = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.0] * 3, [2.0] * 3)])
DRAWING = transforms.Compose([transforms.RandomCrop(5), transforms.ToTensor()])
REFUSED = {
    "normalised": ((FLOAT - 0.5) / 0.25, r"from -2 to 2, so they are normalised; take Normalize o"),
    "in [-1, 1]": (FLOAT * 2 - 1, r"they look scaled to \[-1, 1\]; take Normalize out of"),
    "neither": (FLOAT * 200, r"floats in \[0, 1\], or whole numbers from 0 to 255, got values up"),
    "16 bits": (PIXELS.int() * 257, "are whole numbers from 0 to 255, got 0 to 65535; convert"),
    "cast": ((FLOAT > 0.5).byte(), r"are uint8 of 0 and 1 alone, as images in \[0, 1\] become"),
    "not finite": (FLOAT / torch.zeros(()), "images have values that are not finite"),
    "complex": (FLOAT.to(torch.complex64), "uint8 or floats of 16 bits and more, got torch.compl"),
    "four channels": (PIXELS[:, [0, 1, 2, 0]], "have 3 channels, or 1 where they are grey, got"),
    "either axis": (PIXELS[..., :3], r"not certain which axis of images of \(12, 3, 8, 3\) has"),
    "flat": (PIXELS.flatten(1), r"or grey, got \(12, 144\)"),
    "others": (np.array([object()] * 12), "images are numbers in a tensor or an array, got object"),
    "transparent": ([Image.new("RGBA", (8, 8))] * 12, "images of mode RGBA may have transparency"),
    "several sizes": (
        [*HWC.numpy()[:11], HWC.numpy()[0, :4]],
        r"several shapes, \(8, 6, 3\) and \(4, 6, 3\); resize and crop them to one",
    ),
    "fewer": (PIXELS[:11], "there are 11 images and 12 labels; give one for each"),
    "soft": ((PIXELS, torch.full((12, 4), 0.25)), r"\(12, 4\) are no one-hot rows"),
    "halves": ((PIXELS, LABELS / 2), "labels are class numbers, got 0.5; give whole numbers"),
    "texts": ((PIXELS, ["cat"] * 12), "are texts such as 'cat', whose order among the outputs"),
    "true": ((PIXELS, LABELS > 1), None),
    "below 0": ((PIXELS, LABELS - 1), "are numbers of 4 classes, from 0 to 3, got -1; leave out"),
    "above": ((PIXELS, LABELS + 2), "are numbers of 4 classes, from 0 to 3, got 5"),
    "no label": ((PIXELS, 3), "labels are class numbers, one for each image, got a int"),
    "a transform": (Items(NORMAL), "the transforms of the Items normalise, and selbench corrupts"),
    "a wrapped one": (DataLoader(Subset(Items(NORMAL), [1])), "transforms of the Subset normalise"),
    "a draw": (Items(DRAWING), r"transforms of the Items are random: image \d differs each t"),
    "twice": (
        DataLoader(TENSORS, sampler=[0, 1, 1]),
        "list of the loader draws images more than once; give the loader's dataset",
    ),
    "triples": ([(FLOAT[0], 1, 2)] * 3, "pairs of an image and its label, got a tuple of 3;"),
    "a number": (5, "data is a pair of tensors, images and labels, or of arrays, .*, got a int"),
    "nothing": ([], "there are no images; give at least one"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_certain_is_refused(what):
    given, message = REFUSED[what]
    if isinstance(given, torch.Tensor | np.ndarray | list) and len(given) > 10:
        given = (given, LABELS)
    if message is None:
        assert of(given).test.labels.tolist() == (LABELS > 1).tolist()
        return
    with pytest.raises(SelbenchError, match=message) as refused:
        of(given)
    assert "\n" not in str(refused.value)
