"""Tensors and networks survive being packed, with how they lie in memory."""

import pickle
from itertools import permutations, product

import pytest
import torch
from quick_models import each_model
from torch import nn

from selbench._engine.packed import PackedNetwork, PackedSplit, PackedTensor
from selbench.datasets.dataset import make_split
from selbench.models import build_model
from selbench.study import ModelSpec

KINDS = [torch.float32, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool]


def sent(packed):
    """Return what another process gets, whose arrays are read-only."""
    buffers = []
    data = pickle.dumps(packed, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(each.raw()) for each in buffers])


@pytest.mark.parametrize("sizes", [(2, 3, 4, 5), (1, 3, 1, 2), (2, 0, 3, 1)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tensor_keeps_numbers_shape_and_strides(sizes):
    orders = [(), (0,), (1, 0), *permutations(range(3)), (0, 3, 1, 2), (3, 1, 0, 2)]
    for order, dtype in product(orders, KINDS):
        shape = torch.Size(sizes[: len(order)])
        tensor = torch.arange(shape.numel()).to(dtype).view(shape).permute(order)
        found = sent(PackedTensor.of(tensor)).tensor()
        assert torch.equal(found, tensor), (order, dtype)
        assert (found.dtype, found.stride()) == (dtype, tensor.stride()), order


def test_a_tensor_with_gaps_keeps_its_numbers():
    tensor = torch.arange(24).view(4, 6)[:, ::2]
    assert torch.equal(PackedTensor.of(tensor).tensor(), tensor)
    spread = torch.arange(3).expand(4, 3)
    assert torch.equal(PackedTensor.of(spread).tensor(), spread)


def test_packing_copies_no_numbers():
    tensor = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    packed = PackedTensor.of(tensor)
    tensor[0, 0, 0, 0] = 7
    assert packed.tensor()[0, 0, 0, 0] == 7


def test_a_split_is_the_same_without_a_warning():
    pixels = torch.randint(256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    split = make_split(pixels.to(torch.uint8), torch.arange(6) % 3)
    found = sent(PackedSplit.of(split)).split()
    assert torch.equal(found.images, split.images)
    assert found.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.labels, split.labels)
    assert torch.equal(found.examples, split.examples)
    assert found.checksum == split.checksum


@each_model
@pytest.mark.usefixtures("quick_weights")
def test_every_model_gives_the_same_logits(name):
    torch.manual_seed(0)
    model = build_model(ModelSpec(name=name), 10, ((0.5,) * 3, (0.2,) * 3)).eval()
    model.requires_grad_(False)
    found = sent(PackedNetwork.of(model)).network()
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found(images), model(images))


class Tied(nn.Module):
    """Has one parameter in two places, a buffer, and one that is not saved."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("shift", torch.ones(4), persistent=False)
        self.register_buffer("absent", None)

    def forward(self, points):
        self.calls += 1
        return self.second(self.first(points)) + self.shift


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_tied_parameter_stays_one_and_buffers_can_be_written():
    network = Tied().eval()
    packed = sent(PackedNetwork.of(network))
    found = packed.network()
    assert found.first.weight is found.second.weight
    points = torch.rand(3, 4)
    assert torch.equal(found(points), network(points))
    assert found.calls == network.calls == 1
    assert found.absent is None
    shared = [each for each in packed.tensors if each.dtype == torch.int64]
    assert [each.tensor().item() for each in shared] == [0]


def test_the_packed_network_is_left_as_it_is():
    network = Tied()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    PackedNetwork.of(network).network()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
