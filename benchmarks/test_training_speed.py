"""Training ResNet20 with the regulariser, beside a bare loop and a conventional one."""

import time

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from selbench._kit.device import faster_in_bfloat16
from selbench._kit.memory import keep_memory
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.study import ModelSpec, Recipe
from selbench.training import loop

BATCH, BATCHES = 256, 4
MOMENTS = ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
keep_memory()  # as commands do; for both sides


def recipe(precision="auto"):
    return Recipe(
        epochs=1,
        batch_size=BATCH,
        learning_rate=0.1,
        augment=("flip", "crop"),
        precision=precision,
    )


def split(examples):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (examples, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return make_split(pixels, torch.randint(10, (examples,), generator=generator)).to(DEVICE)


def fresh():
    torch.manual_seed(0)
    model = build_model(ModelSpec(name="resnet20"), 10, MOMENTS).to(DEVICE)
    return model, loop.make_optimizer(model, recipe())


def finish():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def ours(precision="auto"):
    model, optimizer = fresh()
    train, validation = split(BATCH * BATCHES), split(1)

    def run():
        list(loop.train(model, optimizer, train, validation, recipe(precision), alpha=1.0, seed=0))
        finish()

    return run


def bare(precision):
    """Forward, backward and SGD step on a float batch that lies in memory: no regulariser."""
    model, optimizer = fresh()
    half = loop.precision_of(recipe(precision), DEVICE) == "bfloat16"
    part = split(BATCH)
    images = (part.images.float() / 255).contiguous(memory_format=torch.channels_last)

    def run():
        model.train()
        for _ in range(BATCHES):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
                loss = F.cross_entropy(model(images), part.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        finish()

    return run


class Pictures(Dataset):
    """A conventional data set: PIL images, each transformed by itself."""

    def __init__(self):
        pixels = split(BATCH * BATCHES).images.permute(0, 2, 3, 1).cpu().numpy()
        self.pictures = [Image.fromarray(picture) for picture in pixels]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, position):
        return self.transform(self.pictures[position]), position % 10


def conventional():
    """DataLoader with two workers, per-image augmentation, float32, contiguous; no regulariser."""
    model, optimizer = fresh()
    model = model.to(memory_format=torch.contiguous_format)
    loader = DataLoader(
        Pictures(), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )

    def run():
        model.train()
        for images, labels in loader:
            loss = F.cross_entropy(model(images.to(DEVICE)), labels.to(DEVICE))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        finish()

    return run


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_regularised_training_beside_the_bare_step(race, precision):
    """Target: at least 0.95 of the bare loop's throughput, in the same precision."""
    assert race(ours(precision), bare(precision)) >= 0.95


def test_regularised_training_beside_a_conventional_loop(race):
    """Target: 2.7 times its throughput where bfloat16 is quick; else as much."""
    assert race(ours(), conventional()) >= (2.7 if faster_in_bfloat16(DEVICE) else 1)


def test_auto_beside_the_other_precision(race, one_thread):
    """Target: the precision that "auto" chooses is not slower than the other."""
    chosen = loop.precision_of(recipe(), DEVICE)
    (other,) = {"float32", "bfloat16"} - {chosen}
    assert race(bare(chosen), bare(other), clock=time.process_time) >= 1
