"""Attacks along gradients: closed forms on linear networks, budgets, curves and losses."""

from itertools import pairwise

import pytest
import torch
from networks import CLASSES, SIDE, Linear, grey, labels_of

from selbench._kit import chunks
from selbench.attacks import losses
from selbench.attacks.gradient import NEVER, fgsm, gradients_of, logits_of, pgd, pgd_curve, pgd_grid
from selbench.attacks.norms import NORMS, inside

LARGE = (0.06, 0.09, 0.13, 0.2)  # what linear networks here fall to, in L-inf

each_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def exact_minimum(network, images, norm):
    """Return the distance of each image to the nearest other class of a linear network."""
    logits = network(images)
    own = logits.argmax(1)
    gaps = logits.amax(1, keepdim=True) - logits
    differences = network.weight[own][:, None] - network.weight
    length = differences.abs().sum(2) if norm.name == "linf" else differences.norm(dim=2)
    return (gaps / length).masked_fill(gaps == 0, torch.inf).amin(1)


@each_norm
@pytest.mark.sample
def test_the_smallest_perturbation_of_a_linear_network_is_found(norm):
    network, images = Linear(classes=2), grey(40)
    exact = exact_minimum(network, images, norm)
    images = images[exact > exact.max() / 1.4][:12]
    labels, exact = labels_of(network, images), exact_minimum(network, images, norm)
    low, high = exact.min().item() * 0.98, exact.max().item() * 1.04
    epsilons = [low * 1.03**i for i in range(100) if low * 1.03**i < high * 1.03]
    found = pgd_grid(
        network, images, labels, epsilons, norm, steps=20, relative_step=0.25, restarts=0,
        examples=torch.arange(len(images)), key="test",
    )  # fmt: skip
    fallen = torch.stack([each.fallen for each in found])
    assert fallen[-1].all()
    smallest = torch.tensor(epsilons)[fallen.int().argmax(0)]
    torch.testing.assert_close(smallest, exact, rtol=0.04, atol=0)


@each_norm
def test_fgsm_on_a_linear_network_is_the_one_step_that_gains_most(norm):
    network, images = Linear(), grey(40)
    labels = labels_of(network, images)
    (found,) = fgsm(network, images, labels, [0.01], norm)
    gradient, _ = gradients_of(network, images, labels)
    step = found.images - images
    torch.testing.assert_close(norm.size(step), torch.full((40,), 0.01))
    gained = (step * gradient).flatten(1).sum(1)
    others = torch.randn(20, *images.shape, generator=torch.Generator().manual_seed(3))
    for other in others:
        random = norm.steepest(other) * 0.01
        assert ((random * gradient).flatten(1).sum(1) <= gained + 1e-6).all()


@each_norm
@pytest.mark.parametrize("epsilon", [1e-3, 0.02, 0.5])
def test_every_adversarial_lies_in_the_ball_and_in_the_unit_cube(norm, epsilon):
    network = Linear(scale=0.1)
    images = torch.rand(60, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    labels = labels_of(network, images)
    found = [
        *fgsm(network, images, labels, [epsilon], norm),
        pgd(network, images, labels, epsilon, norm, step=epsilon / 4, steps=10),
        pgd_curve(network, images, labels, epsilon, norm, step=epsilon / 4, steps=3)[-1],
        *pgd_grid(
            network, images, labels, [epsilon], norm, steps=5, relative_step=0.25, restarts=2,
            examples=torch.arange(60), key="test",
        ),
    ]  # fmt: skip
    for each in found:
        assert inside(images, each.images, norm, epsilon).all()
        assert torch.equal(each.fallen, logits_of(network, each.images).argmax(1) != labels)


@each_norm
def test_inside_knows_what_is_outside(norm):
    images = torch.full((3, 3, SIDE, SIDE), 0.5)
    adversarials = images.clone()
    adversarials[1, 0, 0, 0] += 0.1
    adversarials[2, 0, 0, 0] = 1.1
    assert inside(images, adversarials, norm, 0.05).tolist() == [True, False, False]
    assert inside(images, adversarials, norm, 1.0).tolist() == [True, True, False]


@each_norm
def test_random_points_fill_the_ball(norm):
    from corruptions.draws import KeyedDraws

    points = norm.random(KeyedDraws("test", torch.arange(2000)), (3, 2, 2), 0.3)
    sizes = norm.size(points)
    assert (sizes <= 0.3 + 1e-6).all()
    # In 12 dimensions, half of the volume lies within 0.5 ** (1 / 12) of the radius.
    inner = (sizes < 0.3 * 0.5 ** (1 / 12)).double().mean()
    assert abs(inner - 0.5) < 3 * (0.25 / 2000) ** 0.5
    assert points.mean().abs() < 0.01


def test_a_result_says_after_how_many_steps_an_example_fell():
    network, images = Linear(scale=0.2), grey(40)
    labels = labels_of(network, images)
    labels[0] = (labels[0] + 1) % CLASSES
    options = {"epsilon": 0.05, "norm": NORMS["linf"], "step": 0.002, "steps": 12}
    found = pgd(network, images, labels, **options)
    assert found.steps[0] == 0
    assert torch.equal(found.images[0], images[0])
    assert torch.equal(found.fallen, found.steps != NEVER)
    assert 0 < found.fallen.sum() < 40
    for number in range(1, 13):
        shorter = pgd(network, images, labels, **(options | {"steps": number}))
        assert torch.equal(shorter.fallen, (found.steps != NEVER) & (found.steps <= number))


def test_a_curve_is_one_run_seen_after_every_step():
    network, images = Linear(scale=0.2), grey(40)
    labels = labels_of(network, images)
    options = {"norm": NORMS["linf"], "step": 0.002}
    curve = pgd_curve(network, images, labels, 0.05, steps=12, **options)
    assert len(curve) == 12
    for number, each in enumerate(curve, 1):
        alone = pgd(network, images, labels, 0.05, steps=number, **options)
        assert torch.equal(each.fallen, alone.fallen)
        torch.testing.assert_close(each.logits, alone.logits)
    all_fall = pgd_curve(network, images, labels, 0.5, NORMS["linf"], step=0.3, steps=6)
    assert [each.fallen.all().item() for each in all_fall] == [True] * 6


def test_what_has_fallen_to_a_budget_has_fallen_to_larger_ones():
    network, images = Linear(scale=0.2), grey(40)
    labels = labels_of(network, images)
    calls = []
    watched = network.forward
    network.forward = lambda batch: calls.append(len(batch)) or watched(batch)
    found = pgd_grid(
        network, images, labels, LARGE, NORMS["linf"], steps=4, relative_step=0.25,
        restarts=1, examples=torch.arange(40), key="test",
    )  # fmt: skip
    for smaller, larger in pairwise(found):
        assert (larger.fallen | ~smaller.fallen).all()
        kept = smaller.fallen
        assert torch.equal(larger.images[kept], smaller.images[kept])
    assert sum(calls) < 40 + len(LARGE) * 2 * 5 * 40  # fewer than without inheritance


def test_random_starts_belong_to_the_example_not_to_its_batch():
    network = Linear(scale=0.2)
    images, examples = grey(40), torch.arange(100, 140)
    labels = labels_of(network, images)

    def attack(rows):
        return pgd_grid(
            network, images[rows], labels[rows], LARGE, NORMS["linf"], steps=3,
            relative_step=0.25, restarts=2, examples=examples[rows], key="test",
        )  # fmt: skip

    whole, part = attack(slice(0, 40)), attack(slice(7, 19))
    assert 0 < whole[2].fallen.sum() < 40
    for all_, some in zip(whole, part, strict=True):
        assert torch.equal(all_.fallen[7:19], some.fallen)
        torch.testing.assert_close(all_.images[7:19], some.images)


def test_losses_are_their_definitions():
    logits = torch.tensor([[3.0, 1.0, 2.0, -1.0], [0.0, 4.0, 1.0, 2.0]])
    labels = torch.tensor([0, 0])
    assert losses.margin(logits, labels).tolist() == [-1.0, 4.0]
    torch.testing.assert_close(
        losses.cross_entropy(logits, labels), -logits.log_softmax(1)[[0, 1], labels]
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_the_direction_of_a_gradient_does_not_depend_on_its_size(norm, scale):
    gradient = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = NORMS[norm].steepest(gradient)
    torch.testing.assert_close(NORMS[norm].steepest(scale * gradient), expected)
    assert (NORMS[norm].steepest(0 * gradient) == 0).all()


class Rooted(Linear):
    def forward(self, images):
        return super().forward(images.sqrt().square())


@pytest.mark.parametrize("norm", NORMS)
def test_a_slope_that_is_not_a_number_does_not_stop_an_attack(norm):
    rooted, images = Rooted(), grey(20)
    images[:, :, 0] = 0  # where the root's slope is infinite, and times 0 not a number
    labels = rooted(images).argmax(1)
    gradients, _ = gradients_of(rooted, images, labels)
    assert gradients.isfinite().all()
    found = pgd(
        rooted, images, labels, 0.5 if norm == "linf" else 4.0, NORMS[norm], step=0.1, steps=40
    )
    assert found.fallen.all()


def test_fgsm_does_not_mend_what_was_wrong_from_the_start():
    network, images = Linear(), grey(40)
    own = labels_of(network, images)
    labels = network(images).argsort(1, descending=True)[:, 1]  # wrong, and nearly right
    labels[::2] = own[::2]
    for found in fgsm(network, images, labels, LARGE, NORMS["linf"]):
        assert found.fallen[1::2].all()
        assert torch.equal(found.images[1::2], images[1::2])
        assert (found.steps[1::2] == 0).all()
        torch.testing.assert_close(found.logits, network(found.images))


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate`"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate`"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
]


class Large(Linear):
    """Needs more memory than there is for more than ten images."""

    def __init__(self, problem):
        super().__init__()
        self.problem = problem

    def forward(self, images):
        if len(images) > 10:
            raise self.problem
        return super().forward(images)


@pytest.mark.parametrize("problem", FULL, ids=[str(each)[:40] for each in FULL])
def test_batches_are_halved_where_memory_does_not_suffice(monkeypatch, problem):
    monkeypatch.setitem(chunks.CHUNK, "cpu", 64)
    images, small = grey(40), Linear()
    labels = labels_of(small, images)
    large = Large(problem)
    with pytest.warns(RuntimeWarning) as told:
        found = pgd(large, images, labels, 0.1, NORMS["linf"], step=0.02, steps=5)
    sentences = [str(each.message) for each in told]
    assert len(sentences) == 3  # none after the first step
    assert sentences[-1] == "out of memory: 8 images at once from now on instead of 16"
    with chunks.sizes_of(small):
        assert chunks.gradient_chunk(images) == 64  # other networks may need less
    expected = pgd(small, images, labels, 0.1, NORMS["linf"], step=0.02, steps=5)
    assert torch.equal(found.fallen, expected.fallen)
    torch.testing.assert_close(found.images, expected.images)


def test_only_restarts_climb_the_other_loss():
    network, images = Linear(), grey(4)
    labels, climbed = labels_of(network, images), []

    def other(logits, own):
        climbed.append(len(own))
        return losses.margin(logits, own)

    for restarts, calls in ((0, 0), (1, 5), (2, 10)):
        pgd_grid(
            network, images, labels, [1e-4], NORMS["linf"], steps=5, relative_step=0.25,
            restarts=restarts, examples=torch.arange(4), key="test", again=other,
        )  # fmt: skip
        assert climbed == [4] * calls
        climbed.clear()
