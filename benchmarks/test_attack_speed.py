"""Attacking a ResNet20, beside foolbox, torchattacks, pyautoattack, one run, and bare steps."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from selbench._kit.chunks import CHUNK
from selbench.attacks.autoattack import autoattack
from selbench.attacks.descent import ddn, fmn
from selbench.attacks.folding import folded, searched
from selbench.attacks.foreign import Guarded
from selbench.attacks.gradient import pgd, pgd_curve, pgd_grid
from selbench.attacks.norms import NORMS
from selbench.attacks.square import square
from selbench.models import build_model, load_weights
from selbench.study import ModelSpec

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EPSILONS = [level / 255 for level in (0.25, 0.5, 1, 2, 4, 8, 16)]
IMAGES, STEPS = 500, 40
LINF = NORMS["linf"]


@pytest.fixture(scope="module")
def network():
    """Load a ResNet20 that others trained on CIFAR-10."""
    folder = os.environ.get("SELBENCH_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: set SELBENCH_TEST_DATA to the folder that holds it")
    moments = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = build_model(ModelSpec(name="resnet20", options={"shortcut": "A"}), 10, moments)
    load_weights(model, Path(folder) / "weights" / "resnet20-cifar10.th")
    return model.to(DEVICE).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data(network):
    """Read CIFAR-10 test images kept as JPEG: (images, labels), the classes in turn."""
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    archive = Path(os.environ["SELBENCH_TEST_DATA"]) / "cifar10-jpeg.tar.xz"
    images, labels, classes = [], [], []
    with tarfile.open(archive) as packed:
        for member in packed:
            part, *rest = member.name.split("/")
            if part == "train":
                break
            if not member.isfile() or Path(rest[-1]).stem >= f"{IMAGES // 10:04}":
                continue
            if rest[0] not in classes:
                classes.append(rest[0])
            content = packed.extractfile(member).read()
            images.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
            labels.append(rest[0])
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    numbers = torch.tensor([sorted(classes).index(label) for label in labels])
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))
    return pixels[order].to(DEVICE), numbers[order].to(DEVICE)


def foolbox_fallen(network, images, labels):
    """Return which examples fall to each epsilon."""
    foolbox = pytest.importorskip("foolbox")
    attack = foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=STEPS, random_start=False)
    wrapped = foolbox.PyTorchModel(network, bounds=(0, 1))
    _, _, fallen = attack(wrapped, images, labels, epsilons=EPSILONS)
    return fallen


def torchattacks_fallen(network, images, labels):
    """Return which examples fall to each epsilon."""
    torchattacks = pytest.importorskip(
        "torchattacks", reason="needs torchattacks, as tox -e perf installs it"
    )
    fallen = []
    for epsilon in EPSILONS:
        options = {"eps": epsilon, "alpha": epsilon / 4, "steps": STEPS, "random_start": False}
        adversarials = torchattacks.PGD(network, **options)(images, labels)
        with torch.no_grad():
            fallen.append(network(adversarials).argmax(1) != labels)
    return torch.stack(fallen)


@pytest.mark.parametrize("peer", [foolbox_fallen, torchattacks_fallen])
def test_pgd_grid_beside_a_peer(race, network, data, peer):
    """Target: at least 8 times as fast, with robust accuracy equal or lower at every epsilon.

    Both start from the image and take 40 steps of epsilon / 4 for each of seven budgets.
    """
    images, labels = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer(network, images[:2], labels[:2])  # or skip
    kept = {}

    def ours():
        quick = folded(network, images[:2])
        found = pgd_grid(
            quick,
            images,
            labels,
            EPSILONS,
            LINF,
            steps=STEPS,
            relative_step=0.25,
            restarts=0,
            examples=torch.arange(len(images), device=DEVICE),
            key="benchmark",
        )
        kept["ours"] = [(~each.fallen).double().mean().item() for each in found]

    def theirs():
        kept["theirs"] = (~peer(network, images, labels)).double().mean(1).tolist()

    ratio = race(ours, theirs, rounds=1)  # the peer takes minutes
    print(f"robust accuracy, ours {kept['ours']}, theirs {kept['theirs']}")  # noqa: T201
    assert all(mine <= other for mine, other in zip(kept["ours"], kept["theirs"], strict=True))
    assert ratio >= 8


def test_paper_curve_beside_one_run(race, network, data):
    """Target: 40 points cost at most 1.1 times one run of 40 steps."""
    images, labels = (part[:128] for part in data)
    quick = folded(network, images[:2])
    options = {"epsilon": 16 / 255, "norm": LINF, "step": 1e-4, "steps": STEPS}

    def curve():
        assert len(pgd_curve(quick, images, labels, **options)) == STEPS

    def one_run():
        pgd(quick, images, labels, **options)

    assert race(curve, one_run, rounds=5) >= 1 / 1.1


def test_step_beside_a_bare_step(race, network, data):
    """Target: at most 1.15 times a forward and a backward pass of the examples still alive."""
    images, labels = (part[:128] for part in data)
    quick = folded(network, images[:2])
    size = CHUNK[DEVICE.type]
    alive: list[int] = []
    forward = quick.forward

    def attack():
        pgd(quick, images, labels, 0.5 / 255, LINF, step=0.125 / 255, steps=20)

    quick.forward = lambda batch: alive.append(len(batch)) or forward(batch)
    attack()
    quick.forward = forward
    points = images.contiguous(memory_format=torch.channels_last)

    def bare():
        for count in alive:
            part = points[:count].detach().requires_grad_()
            loss = functional.cross_entropy(quick(part), labels[:count], reduction="sum")
            torch.autograd.grad(loss, part)

    assert max(alive) <= size
    assert race(attack, bare, rounds=7) >= 1 / 1.15


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_full_grid_on_a_gpu(benchmark, network, data):
    """Images per second of one network over both tuned grids."""
    images, labels = data
    quick = folded(network, images[:2])

    def grid():
        for norm in NORMS.values():
            pgd_grid(
                quick,
                images,
                labels,
                EPSILONS,
                norm,
                steps=STEPS,
                relative_step=0.25,
                restarts=1,
                examples=torch.arange(len(images), device=DEVICE),
                key="benchmark",
            )
        torch.cuda.synchronize()

    benchmark.pedantic(grid, rounds=3, warmup_rounds=1)
    benchmark.extra_info["images per second"] = len(images) / benchmark.stats.stats.median


def few_of(network, data, count):
    """Return images that the network is right about, and their labels."""
    images, labels = data
    with torch.no_grad():
        (right,) = (network(images[: 4 * count]).argmax(1) == labels[: 4 * count]).nonzero(
            as_tuple=True
        )
    return images[right[:count]], labels[right[:count]]


def by_pyautoattack(network, images, labels, epsilons):
    """Return which examples fall to each epsilon: the standard version, an epsilon at a time."""
    from pyautoattack import AutoAttack

    fallen = []
    for epsilon in epsilons:
        attack = AutoAttack(network, norm="Linf", eps=epsilon, version="standard", seed=0)
        attack.device = DEVICE
        found, _ = attack.run_standard_evaluation(images.contiguous(), labels, batch_size=64)
        with torch.no_grad():
            fallen.append(network(found).argmax(1) != labels)
    return torch.stack(fallen)


@pytest.mark.parametrize(("epsilons", "least"), [(EPSILONS, 3), ([1 / 255], 2)])
def test_autoattack_beside_pyautoattack(race, one_thread, network, data, epsilons, least):
    """Target: three times as fast at seven epsilons, twice at one; verdicts no weaker.

    Six images, of which a network without a defence withstands a few; the peer takes minutes.
    """
    images, labels = few_of(network, data, 6)
    kept = {}

    def ours():
        examples = torch.arange(len(images), device=DEVICE)
        quick = searched(network, images[:2])
        found = autoattack(quick, images, labels, examples, epsilons, LINF)
        kept["ours"] = torch.stack([each.fallen for each in found])

    def theirs():
        kept["theirs"] = by_pyautoattack(network, images, labels, epsilons)

    ratio = race(ours, theirs, rounds=1)
    standing = {name: (~fallen).sum(1).tolist() for name, fallen in kept.items()}
    print(f"standing of {len(images)}: {standing}")  # noqa: T201
    assert (kept["ours"] | ~kept["theirs"]).all()
    assert ratio >= least


@pytest.mark.parametrize("norm", NORMS)
def test_squares_bookkeeping_beside_bare_passes(race, one_thread, network, data, norm):
    """Target: a query costs at most 1.1 times a forward pass of the examples that stand."""
    images, labels = few_of(network, data, 64)
    guarded, asked = Guarded(searched(network, images[:2])), []
    epsilons = torch.full((len(images),), 0.25 / 255 if norm == "linf" else 8 / 255, device=DEVICE)
    forward = guarded.network.forward

    def attack():
        square(guarded, images, labels, epsilons, NORMS[norm], seed=0, queries=20)

    guarded.network.forward = lambda batch: asked.append(len(batch)) or forward(batch)
    attack()
    guarded.network.forward = forward
    points = images.contiguous(memory_format=torch.channels_last)

    def bare():
        with torch.no_grad():
            for count in asked:
                guarded.network(points[:count])

    assert race(attack, bare, rounds=7) >= 1 / 1.1


def descents():
    """Return our minimum-norm attacks, each with foolbox's of as many steps."""
    from foolbox import attacks

    linf = attacks.LInfFMNAttack(steps=STEPS)
    return {
        "fmn": (lambda *given: fmn(*given, LINF, steps=STEPS), linf),
        "ddn": (
            lambda *given: ddn(*given, steps=STEPS),
            attacks.DDNAttack(init_epsilon=0.1, steps=STEPS),
        ),
    }


@pytest.mark.parametrize("name", ["fmn", "ddn"])
def test_nearest_errors_beside_foolbox(race, one_thread, network, data, name):
    """Target: not slower at equal steps; both spend their time in the network's own passes."""
    import foolbox

    images, labels = few_of(network, data, 64)
    guarded = Guarded(searched(network, images[:2]))
    wrapped = foolbox.PyTorchModel(network, bounds=(0, 1))
    ours, peer = descents()[name]
    kept = {}

    def mine():
        kept["ours"] = ours(guarded, images, labels)

    def theirs():
        kept["theirs"] = peer(wrapped, images, labels, epsilons=None)[0]

    ratio = race(mine, theirs, rounds=3)
    norm = LINF if name == "fmn" else NORMS["l2"]
    medians = {who: norm.size(found - images).median().item() for who, found in kept.items()}
    print(f"median distance in 255ths: { {k: 255 * v for k, v in medians.items()} }")  # noqa: T201
    assert ratio >= 1


@pytest.mark.parametrize("name", ["fmn", "ddn"])
def test_nearest_errors_beside_bare_passes(race, one_thread, network, data, name):
    """Target: a step costs at most 1.15 times a forward and a backward pass."""
    images, labels = few_of(network, data, 64)
    guarded = Guarded(searched(network, images[:2]))
    ours, _ = descents()[name]
    points = images.contiguous(memory_format=torch.channels_last)

    def bare():
        for _ in range(STEPS):
            part = points.detach().requires_grad_()
            loss = functional.cross_entropy(guarded.network(part), labels, reduction="sum")
            torch.autograd.grad(loss, part)

    assert race(lambda: ours(guarded, images, labels), bare, rounds=3) >= 1 / 1.15
