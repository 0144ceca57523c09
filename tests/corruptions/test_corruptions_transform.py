"""`Corrupt`, the transform for training."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from corruptions import CORRUPTIONS, Corrupt, corrupt

BYTES = torch.randint(
    0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)
ARRAY = BYTES.permute(1, 2, 0).numpy()


def made(image, **options):
    return Corrupt("gaussian_noise", 3, **{"seed": 5, **options})(image)


def test_every_kind_of_image_is_corrupted_alike():
    tensor = made(BYTES)
    assert tensor.dtype == torch.uint8
    assert not torch.equal(tensor, BYTES)
    array = made(ARRAY)
    assert isinstance(array, np.ndarray)
    picture = made(Image.fromarray(ARRAY))
    assert isinstance(picture, Image.Image)
    for other in (array, np.asarray(picture)):
        assert np.array_equal(other, tensor.permute(1, 2, 0).numpy())
    floating = made(BYTES.float() / 255)
    assert torch.equal(floating, tensor.float() / 255)
    batch = made(BYTES.expand(2, 2, 3, 32, 32))
    assert torch.equal(batch[0, 0], tensor)
    assert not torch.equal(batch[0, 0], batch[1, 1])


def test_grey_pictures_become_rgb():
    grey = Image.fromarray(ARRAY[..., 0])
    assert np.array_equal(made(grey), made(grey.convert("RGB")))


def test_structures_keep_all_but_their_images():
    alone = made(BYTES)
    label = torch.tensor(7)
    image, same = made((BYTES, label))
    assert torch.equal(image, alone)
    assert same is label
    image, same = Corrupt("gaussian_noise", 3, seed=5)(BYTES, 7)
    assert torch.equal(image, alone)
    assert same == 7
    found = made({"image": Image.fromarray(ARRAY), "mask": BYTES})
    assert found["mask"] is BYTES
    assert np.array_equal(found["image"], alone.permute(1, 2, 0).numpy())


def test_torchvision_composes_it():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    steps = v2.Compose(
        [v2.ToImage(), Corrupt("gaussian_noise", 3, seed=5), v2.ToDtype(torch.uint8)]
    )
    image = steps(Image.fromarray(ARRAY))
    assert type(image) is tv_tensors.Image
    assert torch.equal(image.as_subclass(torch.Tensor), made(BYTES))
    mask = tv_tensors.Mask(BYTES[:1])
    image, same, label = steps(tv_tensors.Image(BYTES), mask, 3)
    assert torch.equal(same, mask)
    assert label == 3
    assert not torch.equal(image, BYTES)


def test_names_and_severities_are_drawn_from_lists():
    transform = Corrupt(("contrast", "brightness"), range(1, 4), seed=0)
    seen = {transform(BYTES).numpy().tobytes() for _ in range(60)}
    wanted = {
        corrupt(BYTES[None], name, severity, examples=torch.arange(1)).numpy().tobytes()
        for name in ("contrast", "brightness")
        for severity in (1, 2, 3)
    }
    assert seen == wanted


def test_a_seed_reproduces_and_calls_differ():
    one, other = (Corrupt("gaussian_noise", 3, seed=8) for _ in range(2))
    first, second = one(BYTES), one(BYTES)
    assert not torch.equal(first, second)
    assert torch.equal(other(BYTES), first)
    assert torch.equal(other(BYTES), second)
    later = Corrupt("gaussian_noise", 3, seed=8)
    later.set_epoch(1)
    assert not torch.equal(later(BYTES), first)


def test_without_a_seed_torchs_generator_decides():
    transform = Corrupt("gaussian_noise", 3)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        first, second = transform(BYTES), transform(BYTES)
        torch.manual_seed(4)
        assert torch.equal(transform(BYTES), first)
    assert not torch.equal(first, second)


class Same(Dataset):
    """The same image, transformed, again and again."""

    def __init__(self, transform, count=8):
        self.transform, self.count = transform, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.transform(BYTES)


def loaded(transform, seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    loader = DataLoader(Same(transform), batch_size=2, num_workers=2, generator=generator)
    return torch.cat(list(loader))


def distinct(images):
    return len({image.numpy().tobytes() for image in images})


def test_workers_do_not_repeat_each_other_and_seeds_reproduce():
    seeded = Corrupt("gaussian_noise", 3, seed=2)
    seeded(BYTES)  # what the main process has drawn does not matter to workers
    first = loaded(seeded)
    assert distinct(first) == 8
    assert torch.equal(loaded(Corrupt("gaussian_noise", 3, seed=2)), first)
    seeded.set_epoch(1)
    assert distinct(torch.cat([first, loaded(seeded)])) == 16
    free = Corrupt("gaussian_noise", 3)
    assert distinct(torch.cat([loaded(free, 1), loaded(free, 2)])) == 16
    assert torch.equal(loaded(free, 1), loaded(free, 1))


def test_what_does_not_serve_is_refused():
    with pytest.raises(ValueError, match=r"^unknown corruption 'frog'; the nearest known one is"):
        Corrupt(["fog", "frog"], 3)
    with pytest.raises(ValueError, match=r"^fog has severities 1-5, got 6$"):
        Corrupt("fog", [1, 6])
    with pytest.raises(ValueError, match=r"^seed must be an int of at least 0, got -1$"):
        Corrupt("fog", 1, seed=-1)
    with pytest.raises(ValueError, match=r"^Corrupt needs at least one name and one severity$"):
        Corrupt([], 1)
    with pytest.raises(ValueError, match=r"^arrays have shape \(height, width, 3\), got \(3, 32,"):
        made(BYTES.numpy())
    with pytest.raises(ValueError, match=r"^Corrupt takes PIL images, .* got int, str$"):
        made((1, "x"))
    with pytest.raises(ValueError, match=r"has no constants for 20x20 pixels; choose"):
        made(BYTES[:, :20, :20])
    assert made(BYTES[:, :20, :20], scale=32).shape == (3, 20, 20)


def test_it_says_what_it_draws_from():
    assert repr(Corrupt(["fog", "snow"], [1, 5], scale=32)) == (
        "Corrupt(fog, snow; severity 1, 5; seed None, scale 32)"
    )
    assert set(CORRUPTIONS) == set(Corrupt(CORRUPTIONS, 1).names)
