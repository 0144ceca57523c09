"""FAB: hyperplanes against brute force, steps as pyautoattack has them, and how images leave."""

import numpy as np
import pytest
import torch
from networks import CLASSES, Bent, Linear, grey, pictures
from quick_attacks import each_norm
from scipy.optimize import linprog, minimize

from selbench.attacks.fab import fab
from selbench.attacks.foreign import Guarded
from selbench.attacks.hyperplanes import onto_hyperplane
from selbench.attacks.norms import NORMS

PIXELS = 6


def problems():
    """Yield points, slopes and excesses: zero slopes, pixels at their ends, planes out of reach."""
    generator = np.random.default_rng(0)
    for number in range(40):
        points, slopes = generator.random(PIXELS), generator.normal(size=PIXELS)
        slopes[generator.random(PIXELS) < 0.2] = 0
        ends = generator.random(PIXELS) < 0.2
        points[ends] = points[ends].round()
        reach = np.maximum(slopes * points, slopes * (points - 1)).sum()
        share = (0.3, 0.9, 0.02, 1.0, 1.5, -0.4)[number % 6]
        if share < 0:  # the other side
            reach = np.maximum(-slopes * points, slopes * (1 - points)).sum()
        yield points, slopes, share * reach
    yield points, np.zeros(PIXELS), 1.0
    yield points, slopes, 0.0


def projected(points, slopes, excess, norm):
    shape = (-1, 3, 1, PIXELS // 3)
    points, slopes = (torch.tensor(np.stack(each)).view(shape) for each in (points, slopes))
    return onto_hyperplane(points, slopes, torch.tensor(excess), NORMS[norm]).flatten(1).numpy()


def brute(points, slopes, excess, norm):
    """Return the smallest way by a solver for all such problems, or None where there is none."""
    bounds = [(-each, 1 - each) for each in points]
    if norm == "linf":
        least = np.concatenate([np.zeros(PIXELS), [1]])
        above, below = (np.hstack([s * np.eye(PIXELS), -np.ones((PIXELS, 1))]) for s in (1, -1))
        found = linprog(
            least, np.vstack([above, below]), np.zeros(2 * PIXELS),
            np.concatenate([slopes, [0]])[None], [-excess], [*bounds, (0, None)],
        )  # fmt: skip
        return found.x[-1] if found.success else None
    plane = {"type": "eq", "fun": lambda way: slopes @ way + excess, "jac": lambda way: slopes}
    found = minimize(
        lambda way: way @ way, np.zeros(PIXELS), jac=lambda way: 2 * way, bounds=bounds,
        constraints=plane, method="SLSQP", options={"ftol": 1e-12, "maxiter": 200},
    )  # fmt: skip
    return np.linalg.norm(found.x) if found.success else None


@each_norm
def test_ways_onto_hyperplanes_are_the_smallest(norm):
    points, slopes, excess = (list(each) for each in zip(*problems(), strict=True))
    ways = projected(points, slopes, excess, norm)
    reached = 0
    for point, slope, wanted, way in zip(points, slopes, excess, ways, strict=True):
        assert ((point + way >= 0) & (point + way <= 1)).all()
        assert (way[slope == 0] == 0).all()
        solved = brute(point, slope, wanted, norm)
        if abs(slope @ way + wanted) < 1e-9:
            reached += 1
            size = np.abs(way).max() if norm == "linf" else np.linalg.norm(way)
            assert size == pytest.approx(solved, abs=1e-5)
        else:  # as far as pixels go
            assert solved is None
            end = np.where(slope * wanted > 0, -point, 1 - point)
            np.testing.assert_allclose(way[slope != 0], end[slope != 0])
    assert 30 < reached < len(points)


@each_norm
def test_ways_of_a_batch_are_those_of_its_rows_and_scale_does_not_matter(norm):
    rows = list(problems())
    points, slopes, excess = (list(each) for each in zip(*rows, strict=True))
    together = projected(points, slopes, excess, norm)
    for number in (0, 1, 4):
        alone = projected(*([each] for each in rows[number]), norm)
        np.testing.assert_array_equal(alone[0], together[number])
    tiny = projected(points, [1e-30 * s for s in slopes], [1e-30 * e for e in excess], norm)
    np.testing.assert_allclose(tiny, together, atol=1e-9)


@each_norm
@pytest.mark.parametrize("rank", range(1, CLASSES))
@pytest.mark.sample
def test_steps_are_pyautoattacks(norm, rank, monkeypatch):
    from pyautoattack.fab_pt import FABAttack_PT

    images, labels = pictures(6)
    images = images.double()
    mine, other = Bent(), Bent()
    right = mine(images).argmax(1) == labels
    never = torch.zeros(int(right.sum()))
    fab(Guarded(mine), images[right], labels[right], never, NORMS[norm], steps=20)
    first, rest = mine.followed()[:20], mine.followed()[20:]
    ours = first if rank == 1 else [points[rank - 2 :: CLASSES - 2] for points in rest]
    theirs = FABAttack_PT(other, {"linf": "Linf", "l2": "L2"}[norm], n_iter=20)
    theirs.target_class = rank + 1
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    try:
        theirs.attack_single_run(images, labels, is_targeted=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(ours) == len(other.followed()) == 20
    for here, there in zip(ours, other.followed(), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=1e-5)


@each_norm
@pytest.mark.sample
def test_the_nearest_error_of_a_linear_network_is_found(norm):
    network, images = Linear(), grey(12)
    logits = network(images)
    labels = logits.argmax(1)
    weight = network.weight[labels][:, None] - network.weight
    length = weight.norm(dim=2) if norm == "l2" else weight.abs().sum(2)
    lead = logits.gather(1, labels[:, None]) - logits
    exact = (lead / length).nan_to_num(torch.inf).amin(1)
    found = fab(Guarded(network), images, labels, torch.zeros(12), NORMS[norm])
    sizes = NORMS[norm].size(found - images)
    assert (sizes > exact).all()
    torch.testing.assert_close(sizes, exact, rtol=0.01, atol=0)


@each_norm
@pytest.mark.sample
def test_an_image_leaves_with_its_first_error_near_enough_whatever_its_batch(norm, network):
    images, labels = pictures(20)
    passes = []
    network = torch.nn.Sequential(network)
    network.register_forward_hook(lambda module, inputs, logits: passes.append(len(logits)))
    guarded, size = Guarded(network), NORMS[norm].size

    def found(epsilons, rows=slice(None)):
        passes.clear()
        images_, labels_ = images[rows], labels[rows]
        errors = fab(guarded, images_, labels_, epsilons[rows], NORMS[norm], steps=20)
        return errors, size(errors - images_), sum(passes)

    _, least, all_steps = found(torch.zeros(20))
    epsilons = 1.1 * least + 0.001
    errors, sizes, fewer = found(epsilons)
    right = guarded(images).argmax(1) == labels
    assert (sizes[right] > 0).all()
    assert (sizes[~right] == 0).all()
    assert (sizes <= epsilons).all()
    assert fewer < 0.5 * all_steps
    for row in (1, 7):
        alone, *_ = found(epsilons, slice(row, row + 1))
        torch.testing.assert_close(alone[0], errors[row])
