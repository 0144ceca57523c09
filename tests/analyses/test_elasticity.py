"""Local elasticity: closed forms on linear networks, plain SGD on real ones, known clusterings."""

import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selbench._kit.errors import SelbenchError
from selbench.analyses.elasticity import (
    SHORTEST,
    Elasticity,
    cluster_kernel,
    cluster_points,
    clustering_accuracy,
    clusterings,
    contrast,
    correlation,
    local_elasticity,
)

CLASSES, SIDE = 3, 4


class Linear(nn.Module):
    """Logits that are linear in the image, with a bias."""

    def __init__(self, scale=0.3):
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, CLASSES)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator(0)) * scale)

    def forward(self, images):
        return self.linear(images.flatten(1))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def convolutional():
    """Return a small network with batch norm, whose running statistics are not those of a batch."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * (SIDE - 2) ** 2, CLASSES),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(1)) * 0.4)
        network[1].running_var.fill_(0.3)
    return network.requires_grad_(False).eval()


def examples(count=6, seed=2):
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator(seed))
    return images, torch.arange(count) % CLASSES


def blobs(count=12):
    """Return images near a bright left half, a bright right half or a bright top, by class."""
    labels = torch.arange(count) % CLASSES
    images = 0.05 * torch.rand(count, 3, SIDE, SIDE, generator=generator(3))
    half = SIDE // 2
    images[labels == 0, :, :, :half] += 0.9
    images[labels == 1, :, :, half:] += 0.9
    images[labels == 2, :, :half] += 0.9
    return images, labels


def residual(network, image, label):
    """Return the gradient of the cross-entropy in the logits."""
    logits = deepcopy(network).double()(image[None].double())[0].detach()
    return logits.softmax(0) - F.one_hot(label, len(logits))


def sgd_changes(network, images, labels, learning_rate):
    """Return how all logits fall when torch's SGD takes a step on each example."""
    changes = []
    for image, label in zip(images, labels, strict=True):
        copy = deepcopy(network).double().requires_grad_(True)
        optimizer = torch.optim.SGD(copy.parameters(), lr=learning_rate)
        before = copy(images.double()).detach()
        F.cross_entropy(copy(image[None].double()), label[None]).backward()
        optimizer.step()
        changes.append(before - copy(images.double()).detach())
    return torch.stack(changes)


def jacobians(network, images):
    """Return the derivative of each logit of each image in all parameters."""
    copy = deepcopy(network).double().requires_grad_(True)
    rows = []
    for image in images:
        logits = copy(image[None].double())[0]
        for logit in logits:
            gradients = torch.autograd.grad(logit, list(copy.parameters()), retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows).view(len(images), CLASSES, -1)


@pytest.mark.parametrize("learning_rate", [1e-8, 0.1])
def test_a_linear_network_has_its_closed_form(learning_rate):
    images, labels = examples()
    found = local_elasticity(Linear(), images, labels, learning_rate=learning_rate)
    flat = images.flatten(1).double()
    kernel = flat @ flat.T + 1  # 1 for the bias
    torch.testing.assert_close(found.kernel, kernel, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        found.relative, kernel / kernel.diagonal()[:, None], rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("learning_rate", [1e-7, 0.05])
def test_a_step_is_that_of_plain_sgd(learning_rate):
    network, (images, labels) = convolutional(), examples()
    residuals = torch.stack([residual(network, x, y) for x, y in zip(images, labels, strict=True)])
    assert residuals.norm(dim=1).min() > SHORTEST
    changes = sgd_changes(network, images, labels, learning_rate)
    sizes = changes.norm(dim=2)
    squares = residuals.square().sum(1)
    kernel = torch.einsum("ijc,ic->ij", changes, residuals) / (learning_rate * squares[:, None])
    found = local_elasticity(network, images, labels, learning_rate=learning_rate)
    torch.testing.assert_close(found.relative, sizes / sizes.diagonal()[:, None], rtol=1e-6, atol=0)
    torch.testing.assert_close(found.kernel, kernel, rtol=1e-6, atol=1e-6)


def test_a_short_step_tells_the_neural_tangent_kernel():
    network, (images, labels) = convolutional(), examples()
    found = local_elasticity(network, images, labels)
    jacobian = jacobians(network, images)
    for own, (image, label) in enumerate(zip(images, labels, strict=True)):
        direction = F.normalize(residual(network, image, label), dim=0)
        tangent = jacobian @ jacobian[own].T @ direction  # examples x classes: T(j, own) u
        torch.testing.assert_close(found.kernel[own], tangent @ direction, rtol=1e-5, atol=1e-5)
        relative = tangent.norm(dim=1) / tangent[own].norm()
        torch.testing.assert_close(found.relative[own], relative, rtol=1e-5, atol=1e-5)


def test_rows_are_steps_and_the_diagonal_is_one():
    found = local_elasticity(convolutional(), *examples())
    assert torch.equal(found.relative.diagonal(), torch.ones(6).double())
    assert not torch.allclose(found.relative, found.relative.T)


def test_order_and_company_do_not_matter():
    network, (images, labels) = convolutional(), examples()
    found = local_elasticity(network, images, labels)
    order = torch.tensor([3, 0, 5, 1])
    fewer = local_elasticity(network, images[order], labels[order])
    torch.testing.assert_close(fewer.relative, found.relative[order][:, order])
    torch.testing.assert_close(fewer.kernel, found.kernel[order][:, order])


def test_examples_beyond_one_batch_are_the_same(monkeypatch):
    network, (images, labels) = convolutional(), examples()
    whole = local_elasticity(network, images, labels)
    monkeypatch.setattr("selbench.analyses.elasticity.BATCH", {"cpu": 4})
    parts = local_elasticity(network, images, labels)
    torch.testing.assert_close(parts.relative, whole.relative)


def test_the_network_is_left_as_it_was():
    network, (images, labels) = convolutional().train(), examples()
    before = deepcopy(network.state_dict())
    with torch.no_grad():
        found = local_elasticity(network, images, labels)
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())
    assert network.training
    assert not any(each.requires_grad or each.grad is not None for each in network.parameters())
    # Frozen or not, in training or not: the copy is evaluated, and all of it moves.
    free = local_elasticity(convolutional().requires_grad_(True), images, labels)
    assert torch.equal(found.kernel, free.kernel)


@pytest.mark.parametrize("gap", [20, 40, 2000])
def test_an_example_fitted_beyond_rounding_keeps_its_similarities(gap):
    images, labels = examples()
    network = Linear()
    with torch.no_grad():
        network.linear.bias += torch.tensor([gap, 0.0, 0])
    found = local_elasticity(network, images, labels)
    flat = images.flatten(1).double()
    kernel = flat @ flat.T + 1
    assert residual(network, images[0], labels[0]).norm() < 1e-6
    torch.testing.assert_close(found.kernel, kernel, rtol=1e-2, atol=0)
    torch.testing.assert_close(
        found.relative, kernel / kernel.diagonal()[:, None], rtol=1e-2, atol=0
    )


def test_a_step_that_moves_nothing_is_similar_to_nothing():
    network = Linear()
    network.linear = nn.Linear(3 * SIDE * SIDE, CLASSES, bias=False)
    images, labels = examples()
    images[0] = 0
    found = local_elasticity(network, images, labels)
    assert found.relative[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert found.kernel[0].tolist() == [0] * 6
    assert correlation(found.kernel).isfinite().all()


def test_contrast_averages_pairs_of_different_examples():
    similarity = torch.tensor([[9.0, 2, 1], [4, 9, 2], [0, 1, 9]]).double()
    found = contrast(similarity, torch.tensor([1, 1, 0]))
    assert (found.within, found.between, found.ratio) == (3, 1, 3)


def test_contrast_has_no_ratio_where_classes_repel():
    similarity = torch.tensor([[9.0, 2, -1], [4, 9, -2], [0, -1, 9]]).double()
    assert math.isnan(contrast(similarity, torch.tensor([1, 1, 0])).ratio)


def test_correlation_divides_by_the_roots_of_the_diagonal():
    kernel = torch.tensor([[4.0, 3, 1], [6, 9, 1], [1, 1, -2]]).double()
    expected = torch.tensor([[1, 0.5, 0], [1, 1, 0], [0, 0, 0]]).double()
    torch.testing.assert_close(correlation(kernel), expected)


@pytest.mark.parametrize(
    ("assignments", "labels", "accuracy"),
    [
        ([2, 2, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2], 1),
        ([0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2], 1 / 3),
        ([0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2], 1 / 2),
        ([0, 0, 0, 1, 1, 1], [4, 4, 4, 4, 4, 7], 4 / 6),
        ([0, 0, 0, 1, 1], [0, 0, 1, 0, 0], 3 / 5),
    ],
)
def test_clustering_accuracy_is_that_of_the_best_matching(assignments, labels, accuracy):
    found = clustering_accuracy(torch.tensor(assignments), torch.tensor(labels))
    assert found == pytest.approx(accuracy)


def test_points_that_differ_by_rounding_alone_are_one():
    points = (
        torch.tensor([[1.0, 2], [1, 2], [3, 4], [1, 2]]).double() + 1e-14 * torch.arange(4)[:, None]
    )
    assert clustering_accuracy(cluster_points(points, 4), torch.tensor([0, 0, 1, 0])) == 1
    assert cluster_points(torch.ones(4, 2), 3).tolist() == [0] * 4


def test_kernel_k_means_takes_blocks_apart_whatever_their_signs():
    labels = torch.tensor([0, 1, 1, 0, 2, 2])
    block = (labels[:, None] == labels).double() + 0.2
    skew = torch.rand(6, 6, generator=generator(4)).double()
    for similarity in (block, block + 3 * (skew - skew.T), block - 2 * torch.eye(6).double()):
        assert clustering_accuracy(cluster_kernel(similarity, 3), labels) == 1


def test_kernel_k_means_has_the_distances_of_the_kernel():
    points = torch.rand(30, 4, generator=generator(5)).double()
    kernel, direct = cluster_kernel(points @ points.T, 4), cluster_points(points, 4)
    assert clustering_accuracy(kernel, direct) == 1


def test_clusterings_find_well_separated_classes_everywhere():
    images, labels = blobs()
    found = clusterings(convolutional(), images, labels)
    assert list(found) == ["relative", "kernel", "pixels", "features", "logits"]
    assert found == dict.fromkeys(found, 1)


def test_clusterings_leave_a_network_in_training_as_it_was():
    images, labels = blobs()
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), convolutional()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert clusterings(network, images, labels) == clusterings(network.eval(), images, labels)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_clusterings_look_at_what_their_names_say():
    images, labels = blobs()
    network = convolutional()
    confused = Elasticity(*(torch.eye(len(images)).double(),) * 2)
    confused.relative[:6, :6] = 1
    with torch.no_grad():
        network[3].bias -= 100  # the features are dead, and so the logits are one point
    found = clusterings(network, images, labels, confused)
    assert found["pixels"] == 1
    assert found["features"] == found["logits"] == pytest.approx(1 / CLASSES)
    assert found["relative"] < 1
    assert clusterings(network, images, labels, confused, layers="0")["features"] == 1


@pytest.mark.parametrize(
    ("network", "labels", "problem"),
    [
        (Linear(), [0], "at least 2 examples, of at least 2 classes; got 1 of 1"),
        (Linear(), [1, 1, 1], "at least 2 examples, of at least 2 classes; got 3 of 1"),
        (nn.Flatten(), [0, 1], "the network has no parameters"),
        (Linear(math.inf), [0, 1], "the network returns NaN or infinity"),
    ],
)
def test_what_has_no_elasticity_is_refused(network, labels, problem):
    with pytest.raises(SelbenchError, match=problem):
        local_elasticity(network, examples(len(labels))[0], torch.tensor(labels))


def test_a_step_too_long_is_refused():
    with pytest.raises(SelbenchError, match=r"a step with learning rate 1e\+200 leads to NaN"):
        local_elasticity(convolutional(), *examples(), learning_rate=1e200)


def test_a_contrast_needs_a_class_with_two_examples():
    with pytest.raises(SelbenchError, match="a class with at least 2 examples"):
        contrast(torch.eye(3).double(), torch.arange(3))


def test_more_clusters_than_examples_are_refused():
    with pytest.raises(SelbenchError, match="3 clusters need as many examples, got 2"):
        cluster_kernel(torch.eye(2).double(), 3)
