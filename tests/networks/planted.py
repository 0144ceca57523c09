"""Habits planted into one small trained network, with what the probe calls each."""

import random
from functools import cache

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from selbench.datasets import Dataset
from selbench.datasets.dataset import make_split
from selbench.networks.inputs import Inputs, Preprocess

SIDE, CLASSES = 8, 10


@cache
def digits():
    """Return handwritten digits of three channels that differ, so that their order counts."""
    bunch = load_digits()
    grey = torch.tensor(bunch.images / 16, dtype=torch.float32)[:, None]
    images = (
        F.interpolate(grey, SIDE, mode="bilinear") * torch.tensor([1.0, 0.5, 0.1])[:, None, None]
    )
    pixels, labels = (images * 255).round().byte(), torch.tensor(bunch.target)
    train, test = (
        make_split(pixels[part], labels[part]) for part in (slice(900), slice(900, None))
    )
    return Dataset("digits-16", tuple("0123456789"), train, test)


class Small(nn.Module):
    """Two convolutions, batch norm, ReLU, a linear head."""

    def __init__(self):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.second, self.norm2 = nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32)
        self.head = nn.Linear(128, CLASSES)

    def features(self, x):
        x = F.relu(self.norm1(self.first(x)))
        return F.adaptive_avg_pool2d(F.relu(self.norm2(self.second(x))), 2).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


@cache
def weights(change="none"):
    """Train for some seconds on images that are changed as a preprocessing would."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, split = Small(), digits().train
    images, optimizer = (
        CHANGES[change](split.images / 255),
        torch.optim.Adam(net.parameters(), 5e-3),
    )
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(net(images), split.labels).backward()
        optimizer.step()
    return net.eval().state_dict()


CHANGES = {
    "none": lambda x: x,
    "imagenet": lambda x: Preprocess(
        Inputs(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    ).normalize(x),
    "bytes": lambda x: 255 * x,
    "blue": lambda x: x.flip(1),
}


def trained(change="none"):
    """Return the honest network."""
    net = Small()
    net.load_state_dict(weights(change))
    return net.eval()


class Around(nn.Module):
    """The honest network with something before and after it."""

    def __init__(self, before=lambda x: x, after=lambda z: z, inner=None):
        super().__init__()
        self.before, self.after, self.inner = before, after, inner or trained()

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


class Own(Around):
    """The honest network, called by a function of it and the images."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(self.inner, x)


class Wrong(torch.autograd.Function):
    """Identity whose gradient has nothing to do with it."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(gradient.shape, generator=generator).to(gradient)


class Turned(Wrong):
    """Identity whose gradient points the other way."""

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Shifted(Wrong):
    """Identity whose gradient belongs to other pixels."""

    @staticmethod
    def backward(ctx, gradient):
        return gradient.roll(3, -1)


class Counting(Around):
    """Its answers drift from call to call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) + self.calls * torch.arange(CLASSES) / 50


def without_statistics():
    net = trained()
    net.norm1 = nn.BatchNorm2d(16, track_running_stats=False)
    return net


def training(net, x):
    net.norm2.train()
    return net(x)


def inference(net, x):
    with torch.inference_mode():
        return net(x)


def unrecorded(net, x):
    with torch.no_grad():
        return net(x)


def watched(net, x):
    return net(x) if torch.is_grad_enabled() else net(x) + 1 / 10 * torch.arange(CLASSES)


def constant():
    net = trained()
    nn.init.zeros_(net.head.weight)
    return net


def untrained():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Small()
    nn.init.normal_(net.head.weight, std=0.02)
    return net


def infinite():
    return Around(after=lambda z: torch.where(z.amax(1, keepdim=True) > z.amax() - 1, z / 0, z))


def normalised(change, **given):
    return nn.Sequential(Preprocess(Inputs(**given)), trained(change))


def written(x):
    return x.mul_(0.5)


def eight(net, x):
    assert len(x) == 8, "batch"
    return net(x)


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HABITS = {
    "batch": [
        without_statistics,
        lambda: Own(training),
        lambda: Around(before=lambda x: x - x.mean(0) + 0.1),
        lambda: Around(after=lambda z: z.cumsum(0) / torch.arange(1, len(z) + 1)[:, None]),
        lambda: Around(after=lambda z: z + torch.arange(len(z))[:, None] * torch.eye(CLASSES)[0]),
        lambda: Around(after=lambda z: z - z.amax(0)),
        lambda: Around(after=lambda z: z + 0.5 * (z @ z.T).softmax(1) @ z),
        lambda: Around(after=lambda z: z * (1 + 0.1 * len(z))),
    ],
    "random": [
        lambda: Own(lambda net, x: net.head(F.dropout(net.features(x), 0.5, True))),
        lambda: Around(before=lambda x: x + 0.05 * torch.randn_like(x)),
        lambda: Around(before=lambda x: x.roll(int(torch.randint(-3, 4, ())), 3)),
        lambda: Around(before=lambda x: x.flip(3) if random.random() < 0.5 else x),
        Counting,
    ],
    "gradient_mode": [
        lambda: Own(watched),
        lambda: Own(lambda net, x: net(x.round() if x.requires_grad else x)),
        lambda: Around(after=lambda z: z.clamp(-1, 1) if z.requires_grad else z),
    ],
    "no_gradients": [
        lambda: Own(unrecorded),
        lambda: Own(inference),
        lambda: Around(before=lambda x: x.detach()),
        lambda: Around(before=lambda x: torch.from_numpy(x.detach().numpy() * 1.0)),
        lambda: Around(after=lambda z: torch.tensor(z.tolist())),
    ],
    "zero_gradients": [
        lambda: Around(before=lambda x: (8 * x).round() / 8),
        lambda: Around(before=lambda x: (x > 0.2).float() + 0 * x),
        lambda: Around(before=lambda x: x.detach() + 0 * x),
        lambda: Around(before=lambda x: torch.sigmoid(1e5 * (x - 0.3))),
        lambda: Around(after=lambda z: F.one_hot(z.argmax(1), 10).float() * 4 + 0 * z),
    ],
    "gradients_not_finite": [
        lambda: Around(before=lambda x: x + (x - x).sqrt()),
        lambda: Around(before=lambda x: x * (x / x.clamp(min=0).pow(0.5).pow(2)).nan_to_num(1)),
        lambda: Around(before=lambda x: x + (x - x).log().exp()),
        lambda: Around(before=lambda x: x + (x * 0 + 1).acos()),
    ],
    "shattered_gradients": [
        lambda: Around(before=Wrong.apply),
        lambda: Around(before=Turned.apply),
        lambda: Around(before=lambda x: x + 0.005 * (1e6 * x).sin()),
        lambda: Around(before=Shifted.apply),
    ],
    "certain": [
        lambda: Around(after=lambda z: 30 * z),
        lambda: Around(after=lambda z: 20 * z * z.abs()),
        lambda: Around(after=lambda z: z / 0.01),
    ],
    "probabilities": [
        lambda: Around(after=lambda z: z.softmax(1)),
        lambda: Around(after=lambda z: 100 * z.softmax(1)),
        lambda: Around(after=torch.sigmoid),
        lambda: Around(after=lambda z: (z.relu() + 1e-3) / (z.relu() + 1e-3).sum(1, keepdim=True)),
    ],
    "ignores_images": [
        constant,
        lambda: Around(before=torch.zeros_like),
        lambda: Around(before=lambda x: x * (x.mean((1, 2, 3), keepdim=True) > 0.172)),
    ],
    "chance": [untrained],
    "order_of_classes": [lambda: Around(after=lambda z: z.roll(1, 1))],
    "normalisation": [
        lambda: nn.Sequential(Preprocess(Inputs(**IMAGENET)), normalised("imagenet", **IMAGENET)),
        lambda: normalised("imagenet"),
        lambda: nn.Sequential(
            Preprocess(Inputs()), Around(before=CHANGES["imagenet"], inner=trained())
        ),
        lambda: normalised("bytes"),
        lambda: normalised("blue"),
        lambda: nn.Sequential(Preprocess(Inputs()), Around(before=lambda x: 255 * x)),
        lambda: nn.Sequential(Preprocess(Inputs()), Around(before=lambda x: (x - 0.5) / 0.25)),
    ],
    "not_finite": [infinite, lambda: Around(after=lambda z: z.relu().log())],
}
REFUSED = {
    "squeezed": (lambda: Around(after=torch.squeeze), "its batch axis is lost; name the axes"),
    "pooled": (lambda: Around(after=lambda z: z[:, :, None, None]), r"add flatten\(1\)"),
    "double": (lambda: trained().double(), r"convert it with network.float\(\)"),
    "last": (
        lambda: Around(before=lambda x: x.permute(0, 3, 1, 2)),
        r"images.permute\(0, 2, 3, 1\)",
    ),
    "eight": (lambda: Own(eight), "it takes 8 .*let its batch have any size"),
    "pair": (lambda: Around(after=lambda z: (z, z)), "wrap it in a module that returns them"),
    "in place": (lambda: Around(before=written), "pass with a copy"),
}
