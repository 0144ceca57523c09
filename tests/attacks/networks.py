"""Networks to attack that show something at once, and images for them."""

import copy
from functools import cache

import torch
from torch import nn

CLASSES, SIDE = 5, 6


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self, classes=CLASSES, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(classes, 3 * SIDE * SIDE, generator=generator) * scale
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


class Quantised(nn.Module):
    """A network that rounds its input, which has a gradient of zero."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network((images * 8).round() / 8)


class Detached(Linear):
    def forward(self, images):
        return super().forward(images.detach())


class Dropping(Linear):
    def forward(self, images):
        return nn.functional.dropout(super().forward(images), 0.3)


class Diverged(Linear):
    def forward(self, images):
        return super().forward(images) * torch.nan


class Fragile(Linear):
    """A network for which grey is of class 0, and nothing else a number."""

    def forward(self, images):
        bright = images.flatten(1).amax(1, keepdim=True) > 0.6
        grey = super().forward(images) * 0.1 + torch.eye(CLASSES)[0] * 9
        return grey.masked_fill(bright, torch.nan)


class Bent(nn.Module):
    """A trained network in float64 that keeps what it was shown.

    It bends everywhere: where a network is linear, steps end at the boundary to the last bit, and
    rounding says on which side. It is not so certain that logits are tempered.

    Attributes:
        seen: the images, and whether gradients were asked for.
    """

    def __init__(self):
        super().__init__()
        self.network = copy.deepcopy(trained(0)).double()
        self.network[1] = self.network[3] = nn.Softplus(beta=5)
        self.seen = []
        self.eval()

    def forward(self, images):
        self.seen.append((images.detach().clone(), images.requires_grad))
        return self.network(images) / 3

    def followed(self):
        """Return the images whose gradients were asked for."""
        return [images for images, wanted in self.seen if wanted]


def grey(batch):
    """Return images far from black and white, so that [0, 1] is never in the way."""
    generator = torch.Generator().manual_seed(0)
    return 0.4 + 0.2 * torch.rand(batch, 3, SIDE, SIDE, generator=generator)


def labels_of(network, images):
    return network(images).argmax(1)


def pictures(batch, seed=0):
    """Return images of one pattern per class under noise, and their labels."""
    generator = torch.Generator().manual_seed(5)
    patterns = torch.randn(CLASSES, 3, SIDE, SIDE, generator=generator)
    generator.manual_seed(seed)
    labels = torch.randint(CLASSES, (batch,), generator=generator)
    dirt = torch.randn(batch, 3, SIDE, SIDE, generator=generator)
    return (0.5 + 0.08 * patterns[labels] + 0.15 * dirt).clamp(0, 1), labels


@cache
def trained(seed):
    """Return a small convolutional network that was trained on `pictures`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, CLASSES),
        )  # fmt: skip
    images, labels = pictures(300, seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)
